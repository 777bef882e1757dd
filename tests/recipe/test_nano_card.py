"""The table of the model card: flattened from the reports, honest about what was left out."""

from nano_recipe.evaluation.card import measure, speech_figures

from emova_sdk.evaluation.figures import Figure


def rate(value, **more):
    return {"value": value, "interval": [value - 0.1, value + 0.1], "n": 7, **more}


def test_figures_have_interval_guess_and_the_teachers_ceiling():
    figures, facts = speech_figures(
        {
            "words": {"word_error_styled_domain": rate(0.2), "word_error_teacher_domain": rate(0.1)},
            "emotion": {"reply_emotion": rate(0.7, majority=0.25), "reply_emotion_confusions": {"sad as happy": 1}},
            "real_time_factor": {"speak": 0.05},
        }
    )
    assert figures[0] == Figure("words", "word_error_styled_domain", 0.2, 0.1, 0.30000000000000004, 7, None, 0.1)
    assert figures[1].ceiling is None
    assert (figures[2].guess, figures[2].ceiling) == (0.25, None)
    assert facts == {"emotion.reply_emotion_confusions": {"sad as happy": 1}, "real_time_factor.speak": 0.05}


def test_what_cannot_be_measured_is_named(tmp_path):
    begun = []
    card = measure(preset=tmp_path, work=tmp_path, begin=begun.append)
    assert card.figures == []
    assert set(card.left_out) == {"pictures and turns", "latency", "speech"}
    assert str(tmp_path) in card.left_out["speech"]
    assert begun == ["latency", "speech"]
