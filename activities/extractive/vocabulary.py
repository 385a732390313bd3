"""
English as questions use it: words that say nothing, that say little, and that say the
same. Other languages are searched by their words alone.
"""

from outlast.crew.library.terms import stem, words

_STOP_WORD_LIST = """
a about after again all also am among an and another any anybody anyone are as at be
because been before being between both but by can cannot could describe did do does
doing done down during each either else every explain find for from further get gets
getting give given gives got had happen happened happens has have having he her here
hers him his how however i if in instead into is it its itself just know let ll long
many may me mean means meant might more most much must my need needs no nor not now of
off often on once one only onto or other our ours out over own per please re same shall
she should show so some somebody someone something still such tell than that the their
theirs them then there these they thing this those through to too toward under until up
upon us use used uses using ve very via was way we were what whatever when where whether
which while who whom whose why will with within without would yes yet you your yours
"""
STOP_WORDS = frozenset(_STOP_WORD_LIST.split())

# Words that questions are made of. Documents say the same in other words, so that one
# of them missing says little.
_LIGHT = """
able accept act actually add affect allow allowed alone amount anybody apply area ask
available avoid aware back become begin behave belong best better big bring build call
called carry case cause change check choose come commence common consider consist
contain correct cover create current currently day deal decide define delete depend
describe detail difference different display do drive effect employ enable end ensure
enter exactly example execute exist expect explain far fast finish fix follow full
general generate go good great handle help high hold hour idea important include inform
information involve issue item itself join keep kind know large last late lead learn
leave let level like limit list live look love low maintain make manage matter method
minute mode month move name necessary new next normal notify number obtain occur offer
old open operate own owner part pay people perform permit person pick place play point
possible prefer prepare present prevent print problem process produce promise proper
provide pull purpose push put raise rather reach read ready reason receive recommend
refer relate remain remember remove replace reply represent request require required
responsible result retain return right rule run say second see send serve set shall
short show single size small solve soon speak specific specify spend stand start state
status stay stop store suggest supply support supposed system take teach tell term think
time total travel treat true try turn type typical understand unit usual value version
visit wait walk want warm watch way week well whole wish work worry write wrong year
"""
LIGHT_STEMS = frozenset(map(stem, _LIGHT.split()))

# Words whose stems differ though they mean the same; the first represents all.
_SAME = """
begin began begun start; bring brought; build built; buy bought purchase; child
children; choose chose chosen; create make made; day daily; delete remove erase; drive
drove driven; end finish; fall fell fallen; fly flew flown; go went gone; grow grew
grown; hold held; keep kept retain store; large big; lead led; leave left; lose lost;
meet met; month monthly; night nightly; own owner; pay paid; person people; repair fix;
rise rose risen; run ran; sell sold; send sent; spend spent; stand stood; steal stole
stolen; take took taken; teach taught; tell told; wear wore worn; week weekly; win won;
write wrote written; year yearly annual
"""
_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve"
_FAMILIES = [family.split() for family in _SAME.split(";")]
_FAMILIES += [[word, str(number)] for number, word in enumerate(_NUMBERS.split())]
_FAMILY = {stem(word): family for family in _FAMILIES for word in family}
_FIRST = {each: stem(family[0]) for each, family in _FAMILY.items()}

# What verbs are written together with: "backup" and "back up", "login" and "log in".
PARTICLES = ("back", "down", "in", "off", "out", "over", "up")


def normalized_stems(text: str) -> list[str]:
    """
    The words of *text* by what they have in common: "kept" and "keeps", "2" and "two".
    """
    found = (stem(word) for word in words(text))
    return [_FIRST.get(each, each) for each in found]


def spellings(word: str) -> list[str]:
    """
    The phrases that say the same as *word*, itself first.
    """
    ends = [part for part in PARTICLES if word.endswith(part)]
    apart = [f"{word[: -len(end)]} {end}" for end in ends if len(word) > len(end) + 2]
    return [word, *_FAMILY.get(stem(word), ()), *apart]
