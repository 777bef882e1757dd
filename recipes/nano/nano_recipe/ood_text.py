"""Everyday sentences from outside the domain, put together by a small grammar.

Lists of words have their sounds in them, but not the little words between others, which make up half of what people say and
which are said quite differently there. A voice that never learnt "to the", "have been" or "for a while" in a sentence is
understood only within its domain.
"""

from __future__ import annotations

import re

import numpy as np

_WORDS: dict[str, str] = {
    "noun": """answer apple bag ball bank bed bell bike bill bird board boat body book bottle bowl box bread bridge brush
        building bus button cake camera candle card carpet case cat chair cheese chicken church clock cloth cloud coat coffee
        color computer cookie corner country cow cup desk dish dog door drawer dress drink driver ear egg engine evening eye
        face factory farm fence field film finger fire fish floor flower foot fork game garage gate glass glove grass guest
        hammer hand hat head hill hole horse house ice island jacket job joke juice key knife ladder lake lamp leaf leg lesson
        letter light line list lock machine map mark meal meat message mirror money moon mouse mouth name nest newspaper noise
        nose note number office oil page pan paper path pen pencil phone photo piano picture pie pig pillow plan plane plant
        plate pocket poem pond potato present price prize question radio rain rice ring river road rock roof room rope rose
        salad salt sandwich sauce scarf screen seat sheep shelf ship shirt shoe shoulder sign song soup spoon stamp stone story
        stove street sugar suit sweater table tail tap taste tea television thing ticket tie tool tooth towel tower toy tree
        trip truck valley vase vegetable village voice wall watch water wheel wind window wood word world yard""",
    "plural": """animals apples birds books boxes boys bricks cakes candles cards cars chairs clothes coins cookies cows cups
        dishes doors eggs eyes flowers friends games girls glasses guests hands horses houses jobs leaves lessons letters
        lights machines messages mistakes mountains names neighbors numbers oranges pages people photos pictures plants plates
        questions reasons rooms schools ships shoes shops songs stairs stars stones stories students things tickets tools towns
        toys trees trips trucks vegetables voices walls weeks windows words years""",
    "person": """actor artist aunt baker boy brother captain child cook cousin daughter dentist driver engineer farmer father
        friend girl grandfather guard guide judge king lady lawyer man manager mother neighbor nephew nurse painter pilot
        player officer queen sailor scientist secretary singer sister soldier son student tailor uncle visitor waiter
        waitress wife woman worker writer""",
    "place": """airport bakery bank beach bridge bus church corner desert factory farm field forest garage garden gym hall
        harbor hospital hotel house island kitchen lake library market mountain office park party pool river road roof school
        sea shop square stable stadium station store street theater tower town valley village yard zoo""",
    "adjective": """angry bad beautiful better big black blue bright brown busy careful cheap clean clear clever cold
        comfortable cool dangerous dark dear deep different difficult dirty dry early easy empty expensive famous fast fat
        few fine flat fresh friendly full funny gentle good gray great green half happy hard healthy heavy high honest hot huge
        important interesting kind large late lazy light little lonely long loud low lucky narrow new nice noisy old open
        perfect pink polite poor pretty proud quick quiet ready red rich right round sad safe sharp short sick silly simple
        slow small smart soft special strange strong sweet tall terrible thick thin tiny tired true ugly useful warm weak wet
        white wide wild wise wonderful wrong yellow young""",
    "did": """accepted baked bought broke brought built burned carried caught changed cleaned closed collected counted covered
        cut described dropped fixed followed forgot found gave hid held hit kept left liked lost loved made missed moved needed
        noticed opened ordered painted picked pulled pushed put reached read remembered repaired saved saw sold sent showed
        stole studied threw took tried touched used visited wanted washed watched wore wrote""",
    "do": """answer bake borrow break bring build buy call carry catch change check choose clean close collect count cover cut
        describe draw drive drop eat fill find finish fix follow forget get give hear help hide hold keep leave lend lift lose
        love make measure meet miss move need notice open order pack paint pass pay pick play prepare pull push read remember
        repair return save see sell send share show sing start stop study take teach throw touch try turn use visit wash watch
        wear write""",
    "doing": """asking baking buying carrying changing cleaning closing cooking counting cutting drawing eating fixing holding
        leaving finding making moving opening painting playing pulling pushing reading repairing selling sending
        showing telling taking using visiting washing watching wearing writing""",
    "done": """bought broken built changed cleaned closed covered cut eaten finished fixed forgotten found given heard kept left
        lost made moved opened painted paid read repaired seen sent shown sold stolen taken told used washed watched
        written""",
    "went": """came climbed drove fell flew hurried jumped moved ran rode rushed sailed swam traveled walked went""",
    "rest": """cry dance laugh lie live play rest run sing sit sleep smile stand stay swim wait walk work""",
    "resting": """crying dancing laughing living playing resting running singing sitting sleeping smiling standing staying
        swimming waiting walking working""",
    "how": """again almost carefully early easily finally gently happily hardly late loudly often quickly quietly really
        slowly soon suddenly together usually well""",
    "preposition": "above across after around at behind below beside by for from in inside into near of on over past through "
    "to toward under with without",
    "when": "yesterday|today|tomorrow|tonight|last night|last week|next year|every day|in the morning|in the afternoon|after "
    "dinner|before lunch|on monday|on friday evening|at noon|in the summer|two days ago|for an hour|for a while|right now|"
    "all the time|once a week|later",
    "them": "me|you|him|her|us|them|it|the children|my parents|everybody|someone",
    "they": "they|we|you|i|the children|my parents|most people|all of us|both of them",
    "he": "he|she|it|my brother|her sister|the teacher|our neighbor|somebody|nobody|everyone|his father|their mother",
    "my": "my|your|his|her|our|their|the|the|the|this|that|a",
    "these": "these|those|the|the|some|many|a few|most|all the|his|our|two|three|ten|no",
    "number": "two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|thirty|fifty|a hundred",
    "can": "can|could|will|would|should|must|may|might|did not|do not|can not",
    "because": "because|when|before|after|while|if|until|since|although|and|but|so",
    "very": "very|too|so|quite|rather|really|not",
}
_TEMPLATES: tuple[str, ...] = (
    "{he} {did} {my} {noun} {when}", "{they} {did} {these} {plural} {preposition} the {place}",
    "the {adjective} {noun} is {preposition} the {noun}", "{my} {noun} was {very} {adjective}",
    "there is a {noun} {preposition} {my} {noun}", "there were {number} {plural} in the {place}",
    "{he} has been {resting} {preposition} the {place} {when}", "{they} have been {doing} {these} {plural}",
    "{they} {can} {do} the {noun} {when}", "{can} you {do} {my} {noun} for {them}", "please {do} the {noun} {how}",
    "{he} was {doing} a {noun} {because} the {person} {went} into the {place}", "do you {do} {my} {noun}",
    "why did {they} {do} the {noun}", "where did you {do} that {adjective} {noun}", "who has {done} {my} {noun}",
    "i would like to {do} a {noun} {when}", "i want you to {do} {these} {plural}", "we need to {do} it {when}",
    "the {person} told {them} to {do} more {plural}", "the {person} {went} {preposition} the {place} with {my} {person}",
    "the {plural} have been {done} by the {person}", "it has {how} been {done}", "{my} {person} is a {person}",
    "{he} is {adjective} and {adjective}", "{he} is more {adjective} than the {person}",
    "it is {very} {adjective} to {do} a {noun} at the {place}", "the {noun} that {he} {did} is {adjective}",
    "{he} said that the {noun} was {done} {when}", "i think {they} {can} {do} {them}", "what a {adjective} {noun}",
    "if you {do} the {noun} {they} {can} {rest} {when}", "how many {plural} did you {do} {when}",
    "{he} {went} to the {place} to {do} some {plural}", "as soon as {he} {did} the {noun} {they} {went} home",
    "{these} {plural} are {very} {adjective}", "the {noun} of the {noun} is {adjective}",
    "let us {rest} {preposition} the {place}",
    "one of the {plural} {went} {preposition} the {place}", "nothing is as {adjective} as a {noun}",
    "{he} {can} {rest} here {because} it is {adjective}", "is there any {noun} left in the {place}",
    "{they} did not {do} {them} at all", "{he} never {did} the {adjective} {noun} of {my} {person}",
    "{my} {noun} and {my} {noun} are {preposition} the {noun}", "have you {how} {done} the {noun}",
    "most of the {plural} were {done} {when}", "the {place} is {number} miles from here",
    "it took {number} years to {do} the {place}",
    "{he} {did} it {because} {he} had {done} {my} {noun}",
)  # fmt: skip
_SLOT = re.compile(r"\{([a-z]+)\}")
_CHOICES: dict[str, tuple[str, ...]] = {
    name: tuple(part.strip() for part in (words.split("|") if "|" in words else words.split()))
    for name, words in _WORDS.items()
}


def everyday_sentence(rng: np.random.Generator) -> str:
    """A sentence of ordinary words, 3 to about 15 of them; most are sensible, nearly all are grammatical."""

    def word(match: re.Match[str]) -> str:
        choices = _CHOICES[match[1]]
        return choices[int(rng.integers(len(choices)))]

    text = _SLOT.sub(word, _TEMPLATES[int(rng.integers(len(_TEMPLATES)))])
    return re.sub(r"\ba (?=[aeio])", "an ", text)
