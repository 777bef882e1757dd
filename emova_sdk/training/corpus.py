"""What the synthetic speakers say: domain sentences from templates, and word salad for phone coverage.

Everything is a pure function of `(split, index)`: the same sentence comes back whoever asks, in whatever order. A sentence
belongs to the test split by a hash of the values in its slots (colour, shape, relation, numbers), so that whole
combinations, not only surface strings, are unseen in training.
"""

import re
from typing import Literal
from zlib import crc32

import numpy as np

Split = Literal["train", "test"]

RECIPE_VERSION = 1
"""Changes whenever the texts, voices or styles change; part of every seed."""

TEST_SHARE = 12
"""One slot combination in this many belongs to the test split."""

_SLOTS: dict[str, tuple[str, ...]] = {
    "color": ("red", "green", "blue", "yellow", "purple", "orange", "black", "white", "gray", "brown", "pink"),
    "shape": ("circle", "square", "triangle", "star", "ball", "box", "diamond", "cross"),
    "size": ("big", "small", "large", "little"),
    "relation": ("left of", "right of", "above", "below", "next to", "on top of", "under"),
    "number": tuple(
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety".split()
    ),
    "few": ("no", "one", "two", "three", "four", "five"),
    "operation": ("plus", "minus", "times", "divided by"),
    "unit": ("seconds", "minutes", "hours"),
    "name": ("anna", "peter", "mary", "john", "lisa", "david", "emma", "tom", "sarah", "paul"),
    "person": ("mother", "father", "sister", "brother", "friend", "boss", "teacher", "neighbor", "son", "daughter"),
    "pet": ("dog", "cat", "bird", "horse", "rabbit", "fish"),
    "thing": ("keys", "phone", "wallet", "bag", "book", "ring", "car", "bike", "umbrella", "glasses", "ticket", "coat"),
    "event": ("exam", "race", "game", "contest", "interview", "meeting", "party", "concert", "wedding", "trip"),
    "day": ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "today", "tomorrow"),
    "task": ("call my mother", "water the plants", "buy some milk", "take my medicine", "feed the cat", "pay the bill",
             "go for a walk", "clean the kitchen", "send the letter", "lock the door"),
    "topic": ("music", "the weather", "my work", "school", "the news", "food", "books", "movies", "sports", "the garden"),
}  # fmt: skip

_TEMPLATES: tuple[str, ...] = (
    # questions about drawings
    "what color is the {size} {shape}", "what color is the {shape}", "what shape is {color}", "what is the {color} shape",
    "how many {color} {shape}s are there", "how many {shape}s are there", "how many shapes are there",
    "is there a {color} {shape}", "is the {color} {shape} {relation} the {color2} {shape2}", "where is the {color} {shape}",
    "what is {relation} the {color} {shape}", "which shape is {relation} the {color} {shape}", "what do you see in the picture",
    "describe the picture", "is the {shape} {color}", "can you see a {color} {shape}", "how big is the {color} {shape}",
    # answers about drawings
    "the {shape} is {color}", "the {size} {shape} is {color}", "there are {few} {color} {shape}s", "there is one {color} {shape}",
    "i see a {color} {shape} and a {color2} {shape2}", "the {color} {shape} is {relation} the {color2} {shape2}",
    "yes it is", "no it is not", "yes there is a {color} {shape}", "no there is no {color} {shape}",
    "it is a {color} {shape}", "there are {number} shapes in the picture", "the picture shows {few} {shape}s",
    # remarks with a feeling
    "i lost my {thing} today", "someone stole my {thing}", "my {pet} died last night", "i feel so alone", "i miss my {person}",
    "i got the job", "i won the {event}", "i passed the {event}", "my {person} is coming home", "i am so happy today",
    "i am so sad today", "i am very angry with my {person}", "my {person} lied to me", "they broke my {thing} again",
    "i found my {thing}", "we are having a {event} on {day}", "my {person} forgot my birthday", "i failed the {event}",
    "nobody came to my {event}", "my {person} gave me a new {thing}", "the {event} was great", "i hate waiting for the bus",
    "this is the best day of my life", "why does nobody listen to me", "i am tired of {topic}", "let us talk about {topic}",
    # replies to them
    "i am so sorry to hear that", "i am sorry about your {thing}", "that is wonderful news", "congratulations you did it",
    "that must be hard for you", "i am very happy for you", "take a deep breath", "you have every right to be angry",
    "do you want to talk about it", "i am here for you", "that sounds like a great {event}", "i hope you find your {thing} soon",
    "how is your {person} doing", "i understand how you feel", "that is not fair at all", "tell me more about {topic}",
    # tools
    "what is {number} {operation} {number2}", "how much is {number} {operation} {number2}", "what time is it",
    "set a timer for {number} {unit}", "start a timer for {number} {unit}", "what day is it today",
    "remind me to {task} in {number} {unit}", "remind me to {task} on {day}", "{number} {operation} {number2} is {number3}",
    "it is {number} o'clock", "your timer for {number} {unit} is set", "i will remind you to {task}", "today is {day}",
    "cancel the timer", "it is {number} past {number2}",
    # small talk
    "hello how are you", "what is your name", "my name is {name}", "good morning {name}", "good night {name}", "thank you very much",
    "can you help me", "what can you do", "i can hear see and speak", "see you on {day}", "how old are you", "tell me a story",
    "say it again please", "please speak more slowly", "i did not catch that", "could you say that again", "goodbye {name}",
    "nice to meet you {name}", "do you like {topic}", "i like {topic} very much", "what did you say", "that is a good question",
)  # fmt: skip

COMMON_WORDS: tuple[str, ...] = tuple(
    """able about above accept across act action add afraid after afternoon again against age agree air all allow almost alone along already also
always among amount anger animal another answer any anyone anything apple area arm army around arrive art ask asleep attack autumn away
baby back bad balance ball bank base basket bath beach bean bear beat beautiful because become bed before begin behind believe bell belong below
beside best better between beyond bicycle big bird birth bite bitter black blanket blood blow boat body bone book border born borrow both bottle bottom bowl
box boy branch brave bread break breakfast breath bridge bright bring broken brother brush build burn bus business busy butter button buy cake call calm camera
camp candle cap captain car card care careful carry case castle catch cause center certain chain chair chance change cheap check cheese chicken child children choice
choose church circle city class clean clear clever climb clock close cloth cloud coat coffee coin cold collect college color come common company complete computer cook
cool copper corn corner correct cost cotton cough count country courage course cousin cover cow crazy cream create cross crowd cruel cry cup curtain custom cut dance danger
dark daughter day dead dear decide deep defend degree delay delight depend describe desert desk destroy detail die difference different difficult dinner direction dirty discover disease dish
distance divide doctor dog dollar door double doubt down dozen dream dress drink drive drop dry dust duty each ear early earn earth east easy eat edge education egg
eight either electric elephant else empty end enemy engine enjoy enough enter equal escape even evening event ever every everyone everything exact example except excuse exercise expect expensive explain
eye face fact fail fair fall false family famous far farm fast fat father fault favorite fear feather feed feel female fever few field fight figure fill film final find fine finger finish fire
first fish fit five fix flag flat float floor flour flower fly fold follow food fool foot football force foreign forest forget forgive fork form forward four free freedom freeze fresh friend
friendly from front fruit full fun funny furniture further future game garden gate gather general gentle get gift girl give glad glass go goat god gold good goodbye grass gray great green ground group grow
guess guest guide gun hair half hall hammer hand handle happen happy hard hate have he head health healthy hear heart heat heaven heavy height hello help hen her here hide high hill him history hit hobby hold
hole holiday home honest hope horse hospital hot hotel hour house how huge human hundred hungry hunt hurry hurt husband ice idea if ill important inch increase inside insect instead invite iron island issue jar jelly job join joke journey
joy judge juice jump just keep key kick kid kill kind king kitchen knee knife knock know ladder lady lake lamp land language large last late laugh law lazy lead leaf learn leather leave left leg lemon lend length lesson let letter library lie life
light like lion lip list listen little live lock lonely long look lose lot loud love low luck lunch machine main make male man many map mark market marry matter may maybe meal mean measure meat medicine meet member mention message metal method middle
might mile milk million mind minute miss mistake mix model modern moment money monkey month moon more morning most mother mountain mouse mouth move much music must nail name narrow nation nature near nearly neck need needle neighbor neither net never new
news newspaper next nice night nine noise none nor north nose nothing notice now number nurse object ocean of off offer office often oil old once onion only open opposite or orange order other our out outside over own page pain paint pair pan paper
parent park part partner party pass past path pay peace pear pen pencil people pepper per perfect period person petrol phone photograph piano pick picture piece pig pillow pin place plane plant plastic plate play please pleasure plenty pocket point poison police polite pool
poor popular position possible potato pour power present press pretty prevent price prince prison private prize probably problem produce promise proper protect provide public pull punish pupil push put queen question quick quiet quite radio rain raise reach read ready real really reason receive record
red remember remind remove rent repair repeat reply report rest restaurant result return rice rich ride right ring rise river road rock roof room rope rose round row rub rubber rude ruin rule ruler run rush sad safe sail salt same sand save say scared school science scissors
sea search seat second secret see seed seem sell send sentence serve seven several shade shadow shake shape share sharp she sheep sheet shelf shine ship shirt shoe shoot shop short should shoulder shout show shower shut sick side signal silence silly silver similar simple since sing single
sister sit six size skill skin skirt sky sleep slip slow small smart smell smile smoke snow so soap sock soft some someone something sometimes son song soon sorry sound soup south space speak special speech speed spell spend spoon sport spread spring square stamp stand star start station
stay steal steam step still stomach stone stop store storm story strange street strong student study stupid subject substance success such sudden sugar suggest suit summer sun sunny support sure surprise sweet swim sword table take talk tall taste taxi tea teach team tear telephone television tell ten
tennis tent test than thank that the their then there these thick thief thin thing think third thirsty this those though threat three throat through throw thumb thunder ticket tie tiger tight till time tin tired title to today together toe tomorrow tonight too tool tooth top total touch tour toward town toy
track trade traffic train translate travel treat tree triangle trip trouble true trust try turn twelve twenty twice two type ugly uncle under understand unit until up use useful usual valley value vegetable very village visit voice vote wait wake walk wall want war warm wash waste watch water wave way we weak wear
weather wedding week weekend weight welcome well west wet what wheel when where which while white who whole why wide wife wild win wind window wine winter wise wish with without woman wonder wood word work world worry worse worst wound write wrong yard year yellow yes yesterday yet you young your zero zoo
teeth measure usual vision garage treasure leisure azure beige joyful boil coin voyage annoy thing singer finger hanger youth cube music huge few view church judge giant edge bridge thirty thousand breathe smooth clothes father weather
whatever yellow yesterday young usually unusual language question liquid squirrel quickly twelve twist swing switch sphere script strength split spray stretch scream shrimp throw three shrug""".split()  # noqa: SIM905
)

_SLOT = re.compile(r"\{([a-z]+)(\d?)\}")


def _seed(*parts: str | int) -> np.random.Generator:
    words = [crc32(str(part).encode()) for part in (RECIPE_VERSION, *parts)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def is_test(key: str) -> bool:
    """Whether a slot combination (or, without slots, a text) is reserved for the test split."""
    return crc32(key.encode()) % TEST_SHARE == 0


def domain_sentence(rng: np.random.Generator, split: Split) -> str:
    """One template filled with values whose combination belongs to `split`."""
    while True:
        template = _TEMPLATES[int(rng.integers(len(_TEMPLATES)))]
        values: list[str] = []

        def fill(match: re.Match[str], values: list[str] = values) -> str:
            choices = _SLOTS[match[1]]
            values.append(choices[int(rng.integers(len(choices)))])
            return values[-1]

        text = _SLOT.sub(fill, template)
        # Sentences with at most one slot are too few to hold out: they are learnt as they are.
        held_out = len(values) > 1 and is_test(" ".join(values))
        if held_out == (split == "test"):
            return text


def salad_sentence(rng: np.random.Generator, split: Split, rare: tuple[str, ...] = ()) -> str:
    """Three to eight random words; `rare` words (a dictionary) take a third of the places when given."""
    words: list[str] = []
    for _ in range(int(rng.integers(3, 9))):
        pool = rare if rare and rng.random() < 0.33 else COMMON_WORDS
        words.append(pool[int(rng.integers(len(pool)))])
    text = " ".join(words)
    return text if split == "train" or len(text) < 60 else " ".join(words[:6])


def sentence(split: Split, index: int, *, rare: tuple[str, ...] = (), salad: float = 0.4) -> str:
    """The `index`-th sentence of a split.

    Args:
        split: "train" or "test"; the two never share a filled slot combination.
        index: Position, any non-negative integer.
        rare: Dictionary words that may appear in the word salad.
        salad: Share of random-word sentences.
    """
    rng = _seed("text", split, index)
    return salad_sentence(rng, split, rare) if rng.random() < salad else domain_sentence(rng, split)
