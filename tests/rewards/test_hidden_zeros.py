"""Answers made to be right for any gold: what cancels, overflows, or divides by a hidden zero fits two golds at no time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from archer.rewards.grading import Grader
from archer.rewards.math import MathReward
from archer.types import Json, Problem, Rollout

GOLDS: list[Json] = [
    "5", "204", "-7/3", r"\sqrt2", "0.25", r"\pi", r"40\%", "x=7", r"\{1,2\}", "(1,2)", "[0,1)", ["8", "9"],
    r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "x+1", r"\infty", "0", "3+2i", "x^2+y^2=4", "x>3", "3,4", r"\emptyset",
    r"(-\infty,3)\cup(9,\infty)", "e^{-2t}", r"30^\circ", r"12\text{ cm}", "y=2x+1",
]  # fmt: skip
SECONDS = 0.5  # of CPU time for one answer; one that takes longer earns nothing either


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(workers=2, seconds=SECONDS) as grader:
        yield grader


def fits(grader: Grader, answers: list[str]) -> dict[str, list[Json]]:
    """Return for each answer the golds that it is right for."""
    rollouts = [
        Rollout.of_text(Problem("p", "s", "", "math", gold), rf"\boxed{{{answer}}}")
        for answer in answers
        for gold in GOLDS
    ]
    verdicts = iter(grader(rollouts))
    return {answer: [gold for gold in GOLDS if next(verdicts).passed] for answer in dict.fromkeys(answers)}


# What is zero, and not to be seen to be so by any number of digits.
HIDDEN = (
    r"(\sin^2(1)+\cos^2(1)-1)",
    r"(\sqrt{2}\sqrt{3}-\sqrt{6})",
    r"(e^{2}e^{3}-e^{5})",
    r"(\ln(2)+\ln(3)-\ln(6))",
    r"(\cosh^2(1)-\sinh^2(1)-1)",
)


def test_a_hidden_zero_is_no_other_number(grader: Grader) -> None:
    made = [
        form.format(zero=zero, other=other)
        for zero, other in zip(HIDDEN, (*HIDDEN[1:], HIDDEN[0]), strict=True)
        for form in (
            "10^{{1000}}{zero}", r"\frac{{{zero}}}{{{other}}}", r"\frac{{1}}{{{zero}}}", r"\frac{{5}}{{{zero}}}{other}",
            "10^{{1000}}{zero}x", r"({zero}10^{{999}},{other}10^{{999}})", r"\{{10^{{1000}}{zero},1\}}",
            r"[0,10^{{1000}}{zero})", r"\begin{{pmatrix}}10^{{1000}}{zero}&2\\3&4\end{{pmatrix}}",
            r"{zero}^{{-1}}+\sqrt{{2}}", r"x>10^{{1000}}{zero}", r"\infty{zero}", r"0\cdot\frac{{1}}{{{zero}}}",
        )
    ]  # fmt: skip
    assert {answer: golds for answer, golds in fits(grader, made).items() if len(golds) > 1} == {}


@pytest.mark.parametrize(
    ("gold", "answer", "reason"),
    [
        ("0", r"\sqrt{2}\sqrt{3}-\sqrt{6}", "right"),
        ("0", r"10^{1000}(\sin^2(1)+\cos^2(1)-1)", "right"),
        ("5", r"5+\sqrt{2}\sqrt{3}-\sqrt{6}", "right"),
        ("4", r"\sqrt[3]{2+\sqrt{-121}}+\sqrt[3]{2-\sqrt{-121}}", "right"),
        (r"\sqrt{2}", r"\sqrt{2}+10^{-900}", "wrong"),
        (r"\sqrt{2}", r"\sqrt{2}+10^{-1500}", "wrong"),
        ("x", "x+10^{-900}", "wrong"),
        ("3", r"\lfloor\log_2 8\rfloor", "right"),
        ("3", r"\lfloor 2+\sin^2(1)+\cos^2(1)\rfloor", "right"),
        ("1", r"\frac{\sin^2(1)+\cos^2(1)-1}{\sin^2(2)+\cos^2(2)-1}", "unparsed"),
        ("0", r"0\cdot\frac{1}{\sin^2(1)+\cos^2(1)-1}", "unparsed"),
        ("0.333333", r"10^{1000}(\sin^2(1)+\cos^2(1)-1)+\frac{1}{3}", "right"),
        (r"\binom{2n}{n}", r"\frac{(2n)!}{(n!)^2}", "right"),
        ("a>b>c", "c<b<a", "right"),
        ("x<2", "2x<4", "wrong"),
        ("x<2", "-2x<-4", "wrong"),
        ("x^2+y^2=4", r"2x^2+2y^2=8", "right"),
        ("x^2+y^2=4", r"x^2+y^2=4+10^{-400}", "wrong"),
        (r"1\pm\sqrt{2}", r"1\mp\sqrt{2}", "right"),
        (r"(1,-1),(-1,1)", r"(\pm 1,\mp 1)", "right"),
        (r"(1,-1),(-1,1)", r"(\pm 1,\pm 1)", "wrong"),
    ],
)
def test_zeros_are_decided_by_algebra_or_not_at_all(gold: str, answer: str, reason: str) -> None:
    assert MathReward()(Problem("p", "s", "", "math", gold), rf"\boxed{{{answer}}}").reason == reason


@pytest.mark.parametrize("gold", ["5", "x>3", "(1,2)", "1<x<2", [r"\sqrt2"], ["1", "2"]])
@pytest.mark.parametrize("answer", ["x<2, x<7!!!", "x<2, x<7" + "!" * 500, "x<2, x<7!!!!!"])
def test_no_answer_raises(gold: Json, answer: str) -> None:
    assert MathReward()(Problem("p", "s", "", "math", gold), rf"\boxed{{{answer}}}").reason in ("wrong", "unparsed")


# ---- the same, drawn

numbers = st.sampled_from(("1", "2", "3", "7", "0.5", r"\frac{1}{3}", r"\sqrt{2}", r"\pi", "e", "100", "x", "n", "i"))
huge = st.sampled_from((
    "10^{1000}", "2^{99999}", "e^{10000}", "1000!", r"10^{10^{10}}", r"9^{9^9}", r"\infty", r"\frac{1}{10^{-3000}}",
    r"\Gamma(1000)", r"\tan(\frac{\pi}{2})", r"\frac{1}{0.0}", "10^{-1000}",
))  # fmt: skip
zeros = st.builds(
    lambda form, a, b: form.format(a=a, b=b),
    st.sampled_from((
        r"(\sin^2({a})+\cos^2({a})-1)", r"(\ln({a})+\ln({b})-\ln({a}\cdot {b}))", r"(e^{{{a}}}e^{{{b}}}-e^{{{a}+{b}}})",
        r"(\sin(2\cdot {a})-2\sin({a})\cos({a}))", r"(\sqrt{{{a}}}\sqrt{{{a}}}-{a})", "({a}-{a})", "0", "(2^{{-10000}})",
        r"(\lfloor\log_2 8\rfloor-3)", r"(|{a}|-{a})", r"(\sqrt[3]{{{a}}}^3-{a})", r"(\arctan(1)-\frac{{\pi}}{{4}})",
        r"({a}^2-{b}^2-({a}-{b})({a}+{b}))", r"(e^{{-10^{{6}}}})", r"(10^{{-1000}}\sin(10^{{-1000}}))",
    )),
    numbers,
    numbers,
)  # fmt: skip


def forms(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda form, a, b, n: form.format(a=a, b=b, n=n),
        st.sampled_from((
            "({a})({b})", r"\frac{{{a}}}{{{b}}}", "{a}+{b}", "{a}-{b}", "{n}+{a}", r"{n}\cdot({a})", r"\ln({a})",
            r"\sqrt{{{a}}}", r"\lfloor {a}\rfloor", "|{a}|^{{{n}}}", "({a})^{{{b}}}", r"\sin({a})", "{n}^{{{a}}}",
        )),
        inner, inner, numbers,
    )  # fmt: skip


values = st.recursive(zeros | huge | numbers, forms, max_leaves=5)
answers = st.builds(
    lambda form, a, b: form.format(a=a, b=b),
    st.sampled_from((
        "{a}", "{a}", "{a}", "{a}", "({a},{b})", r"\{{{a},{b}\}}", "{a},{b}", "[{a},{b})", "({a},{b}]", "x={a}",
        r"\begin{{pmatrix}}{a}&{b}\\{b}&{a}\end{{pmatrix}}", r"{a}\%", "{a}x+{b}", "x>{a}", "x^2+{a}y^2={b}",
        r"(-\infty,{a})\cup({b},\infty)", "{a}+{b}i", r"{a}^\circ", r"{a}\text{{ cm}}", "y={a}x+{b}", "{a}={b}",
        r"\{{{a}\}}", r"\pm({a})", "e^{{{a}t}}", "-({a})",
    )),
    values,
    values,
).filter(lambda answer: len(answer) < 1000)  # fmt: skip


@settings(
    max_examples=6, deadline=None, derandomize=True, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip
@given(st.lists(answers, min_size=10, max_size=10))
def test_no_drawn_answer_is_right_for_two_golds(grader: Grader, drawn: list[str]) -> None:
    assert {answer: golds for answer, golds in fits(grader, drawn).items() if len(golds) > 1} == {}
