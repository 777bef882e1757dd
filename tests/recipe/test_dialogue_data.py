import numpy as np
import pytest
from nano_recipe import dialogue
from nano_recipe.dialogue_data import answer_tool, random_question, reply_to
from nano_recipe.scenes import Scene, Shape, demo_scene, draw, random_scene

from emova_sdk.components.nano.scene_qa import answer_question

SCENE = demo_scene()


def ask(text, scene=SCENE):
    question = dialogue.parse_question(text)
    assert question is not None
    return reply_to(np.random.default_rng(0), question, scene, heard=None, offered=True)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("how many shapes are there", "i see three shapes"),
        ("how many stars are there", "there is one star"),
        ("how many green shapes do you see", "there are no green shapes"),
        ("what color is the circle", "the circle is red"),
        ("what color is the triangle", "i do not see it in the picture"),
        ("what shape is yellow", "it is a small star"),
        ("is the blue square big or small", "the blue square is big"),
        ("is there a red circle", "yes there is a red circle"),
        ("do you see a small red circle", "no there is no small red circle"),
        ("is the red circle left of the blue square", "yes it is left of the square"),
        ("is the red circle right of the blue square", "no it is left of the square"),
        ("what is above the red circle", "the yellow star"),
        ("what is below the blue square", "there is nothing below it"),
        ("what is left of the green star", "i see no green star"),
        ("what do you see", "i see a yellow star a red circle and a blue square"),
    ],
)
def test_questions_about_a_scene(question, answer):
    assert ask(question).answer == answer


def test_without_a_picture_one_is_asked_for():
    assert ask("how many stars are there", None).answer == "please show me a picture"


def test_two_that_fit_are_not_told_apart():
    two = Scene((Shape("red", "star", "big", 0.1, 0.1, 0.1), Shape("blue", "star", "big", 0.9, 0.9, 0.1)))
    assert answer_question(two.shapes, "color_of", {"shape": "star"}) == "there is more than one"


def test_arithmetic_is_done_by_the_tool():
    turn = ask("what is forty two times three", None)
    assert turn.tool is not None
    assert (turn.tool.name, turn.tool.argument, turn.tool.result) == (
        "calculator",
        "forty two times three",
        "one hundred twenty six",
    )
    assert turn.answer == "it is one hundred twenty six"
    failed = ask("what is four divided by zero", None)
    assert failed.tool is not None
    assert answer_tool(failed.tool) == "i am sorry that did not work"


def test_every_answer_is_of_the_vocabulary():
    rng = np.random.default_rng(3)
    known = set(dialogue.vocabulary())
    for place in range(400):
        intent = list(dialogue.QUESTIONS)[place % len(dialogue.QUESTIONS)]
        scene = random_scene(rng)
        question = random_question(rng, "train", intent, scene)
        turn = reply_to(rng, question, scene, heard=("sad", "low"), offered=place % 5 > 0)
        assert set(turn.answer.split()) <= known
        assert dialogue.split_of(question.template_key, question.slots) in (None, "train")


def test_scenes_are_seeded_apart_and_drawn_at_any_size():
    scenes = [random_scene(np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert scenes[0] == scenes[1] != scenes[2]
    for scene in scenes:
        cells = [(shape.row, shape.column) for shape in scene.shapes]
        assert len(set(cells)) == len(cells) and cells == sorted(cells)
    assert draw(SCENE, 64).size == (64, 64)
    big = draw(SCENE, 200).pixels
    red = big[int(0.62 * 200), int(0.2 * 200)]
    assert red[0] > 180 and red[1] < 90
