"""Words by Unicode's rules, judged by an independent implementation of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uniseg.wordbreak import words as segments

from waypost.core.words import is_piece, words_of

SENTENCES = (
    "Le cœur déçu mais l'âme plutôt naïve, Louÿs rêva de crapaüter en canoë.",
    "किताब कुताब हिन्दी में क़लम",
    "ภาษาไทยเป็นภาษาที่มีระดับเสียง",
    "ພາສາລາວ ភាសាខ្មែរ မြန်မာဘာသာ",
    "サーバーの設定、データベース ﾃﾞｰﾀ",
    "東京都の天気は晴れです。",
    "한국어로 쓴 문장입니다 한글",
    "وَلَا تَقْرَبَا هَٰذِهِ الشَّجَرَةَ می‌خواهم",
    "שָׁלוֹם עוֹלָם",
    "தமிழ் తెలుగు ಕನ್ನಡ മലയാളം বাংলা ਪੰਜਾਬੀ",
    "x² + ½ = ①, Ⅳ Ⓐ 3.14 can't foo_bar a.b@c.de",
    "ﬁn ﷺ İstanbul ΌΣΟΣ Straße",
)
ALPHABETS = st.sampled_from(
    [
        "aZ1_.'\u2019:,",
        'אבג\u05b8״"',
        "ابت\u064e\u0640",
        "कखि\u094d\u093c",
        "กขา\u0e31",
        "かガー々漢",
        "가각\u1100\u1161",
        "éß²½Ⅳⓐ",
    ]
)
texts = st.lists(st.one_of(ALPHABETS.flatmap(st.sampled_from), st.characters(exclude_categories=["Cs"])), max_size=20)


def contains(whole: list[str], part: list[str]) -> bool:
    return any(whole[start : start + len(part)] == part for start in range(len(whole) - len(part) + 1))


@pytest.mark.parametrize("text", SENTENCES)
def test_a_sentence_is_found_by_each_of_its_words(text: str) -> None:
    for segment in segments(text):
        assert contains(words_of(text), words_of(segment)), segment
        assert words_of(segment) or not any(character.isalnum() for character in segment)


@given(texts.map("".join))
def test_any_text_is_found_by_each_of_its_words(text: str) -> None:
    found = words_of(text)
    for segment in segments(text):
        assert contains(found, words_of(segment)), segment


@given(st.text())
def test_a_word_is_its_own_only_word(text: str) -> None:
    for word in words_of(text):
        assert words_of(word) == [word]
        assert word.isprintable()
        assert " " not in word


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Café", "CAFE"),
        ("e\u0301te\u0301", "été"),
        ("Straße", "STRASSE"),
        ("ﬁn", "fin"),
        ("\uff21\uff22\uff23", "abc"),
        ("ﾃﾞｰﾀ", "データ"),
        ("هَٰذِهِ", "هذه"),
        ("مـــرحبا", "مرحبا"),
        ("שָׁלוֹם", "שלום"),
        ("ver\u00adsand", "versand"),
        ("İ", "i"),
    ],
)
def test_what_is_the_same_word(one: str, other: str) -> None:
    assert words_of(one) == words_of(other)


@pytest.mark.parametrize(("one", "other"), [("किताब", "कुताब"), ("ガ", "カ"), ("กิน", "กัน"), ("한", "하"), ("ば", "ぱ")])
def test_what_is_another_word(one: str, other: str) -> None:
    assert words_of(one) != words_of(other)


@pytest.mark.parametrize(
    ("whole", "part"), [("ภาษาไทย", "ไทย"), ("サーバー", "ーバ"), ("東京都", "京"), ("ភាសាខ្មែរ", "ខ្មែរ")]
)
def test_scripts_without_blanks_are_found_by_any_part(whole: str, part: str) -> None:
    assert contains(words_of(whole), words_of(part))
    assert is_piece(words_of(part)[-1])


def test_what_goes_on_without_end_is_several_words() -> None:
    assert [len(word) for word in words_of("ж" * 150)] == [64, 64, 22]
    assert max(map(len, words_of("ก" + "\u0e31" * 1000))) == 17
