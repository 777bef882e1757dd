"""The 240 phones of EMOVA's CTC head, in index order: English (ARPAbet with stress), then Mandarin (initials, toned finals)."""

from __future__ import annotations

_ENGLISH = """
AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1 EH2 ER0 ER1 ER2 EY0
EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 P R S SH T TH UH0 UH1 UH2 UW0 UW1
UW2 V W Y Z ZH
"""
_MANDARIN = """
a1 a2 a3 a4 a5 ai1 ai2 ai3 ai4 an1 an2 an3 an4 ang1 ang2 ang3 ang4 ao1 ao2 ao3 ao4 b c ch d e1 e2 e3 e4 e5 ei1
ei2 ei3 ei4 en1 en2 en3 en4 en5 eng1 eng2 eng3 eng4 f g h i1 i2 i3 i4 ia1 ia2 ia3 ia4 ian1 ian2 ian3 ian4
iang1 iang2 iang3 iang4 iao1 iao2 iao3 iao4 ie1 ie2 ie3 ie4 ii1 ii2 ii3 ii4 ii5 iii1 iii2 iii3 iii4 in1 in2
in3 in4 ing1 ing2 ing3 ing4 iong1 iong2 iong3 iong4 iou1 iou2 iou3 iou4 j k l m n o1 o2 o3 o4 ong1 ong2 ong3
ong4 ou1 ou2 ou3 ou4 p q r rr s sh t u1 u2 u3 u4 ua1 ua2 ua3 ua4 uai1 uai2 uai3 uai4 uan1 uan2 uan3 uan4 uang1
uang2 uang3 uang4 ui1 ui2 ui3 ui4 un1 un2 un3 un4 uo1 uo2 uo3 uo4 uo5 v1 v2 v3 v4 van1 van2 van3 van4 ve1 ve2
ve3 ve4 vn1 vn2 vn3 vn4 x z zh
"""
PHONES: tuple[str, ...] = (
    *(f"en_{phone}" for phone in _ENGLISH.split()),
    *(f"CN_{phone}" for phone in _MANDARIN.split()),
)
