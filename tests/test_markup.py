import pytest
from hypothesis import given
from hypothesis import strategies as st

from emova_sdk.markup import without_markup


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('<break time="500ms"/>Hello', ", Hello"),
        ("<speak>Good <emphasis level='strong'>morning</emphasis></speak>", "Good morning"),
        ('<sub alias="doctor">Dr</sub> Who', "doctor Who"),
        ("<say-as interpret-as='characters'>abc</say-as>", "a b c"),
        ('<say-as interpret-as="ordinal">3</say-as>', "3th"),
        ("<b>bold</b>ly <!-- unseen -->&amp; <i>more</i>", "boldly & more"),
        ("a < b and c > d", "a < b and c > d"),
        (
            "see [the page](https://example.com/a_(b)?c=d) or https://user:secret@www.example.com:80/x?y=1.",
            "see the page or example.com.",
        ),
        ("<https://example.com/a>, ![a cat](cat.png), [x][1], note[^2]", " example.com , a cat, x, note"),
        ("# Title\n\nSome *text* with `code`\n- one\n- two!", "Title.. Some text with code\none.\ntwo!"),
        ("2 * 3 * 4, snake_case, 2*3", "2 * 3 * 4, snake_case, 2*3"),
        ("```python\nprint(1)\n```", "\nprint(1)\n"),
        ('the end <prosody rate="sl', "the end "),
        ("Fish &chips; &lt;b&gt;", "Fish &chips; <b>"),
    ],
)
def test_marks_are_dropped_and_what_they_mark_is_kept(written, said):
    assert without_markup(written) == said


def test_rows_of_a_table_are_sentences():
    assert without_markup("| a | b |\n|---|---|\n| 1 | 2 |").split() == ["a", ",", "b.", ".", "1", ",", "2."]


@given(st.text(alphabet="<>/=\"' abs[]()!*_`~#|-\n&;:.1", max_size=60))
def test_any_text_is_taken(text):
    assert isinstance(without_markup(text), str)


@given(st.lists(st.sampled_from(["some", "plain", "words", "here."]), max_size=8).map(" ".join))
def test_plain_text_stays_as_it_is(text):
    assert without_markup(text) == text
