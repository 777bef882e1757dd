"""What of LangChain's standard suites asks for something EMOVA does not offer, and why; a case is named by a part of its name."""

LEFT_OUT = {
    "test_init_from_env": "nothing of a chat model comes from the environment: a config does that",
    "test_serdes": "a pipeline is loaded weights; its config is what is kept",
    "test_stream_time": "no recorded network traffic: there is no network",
    "test_json_mode": "the fake model cannot write JSON; see test_chat_model.py for a model that does",
    "test_pdf_inputs": "EMOVA reads no PDF",
    "test_pdf_tool_message": "EMOVA reads no PDF",
    "test_anthropic_inputs": "Anthropic's own format of messages is not EMOVA's",
    "model_override": "the model is what the pipeline was made of: a call cannot change it",
}
