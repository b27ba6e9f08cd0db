"""The head in closed form, against scikit-learn and by what it must never do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from de3dgan.evaluation.metrics import balanced_accuracy, frame_and_trial
from de3dgan.stages import closed_form
from de3dgan.stages.closed_form import Further, fit, sharpness


def of(x: np.ndarray):
    """Return what gives features of rows."""
    x = torch.from_numpy(x.astype(np.float32))
    return lambda rows: x[torch.from_numpy(rows)]


def scores(head: closed_form.Head, x: np.ndarray) -> np.ndarray:
    return (x - head.mean) @ head.weight + head.bias


def people(rng, n_people: int, n_each: int, n_views: int, n_features: int, shift: float, share=0.5):
    """Return features of frames, the first view of which tells the classes, and classes, people."""
    groups = np.repeat(np.arange(n_people), n_each)
    classes = (rng.random(len(groups)) < share).astype(int)
    x = rng.standard_normal((len(groups), n_views * n_features))
    x[:, : n_features // 2] += shift * classes[:, None]
    x += 0.5 * rng.standard_normal((n_people, x.shape[1]))[groups]
    return x, classes, groups, (n_features,) * n_views


def test_without_groups_to_hold_out_it_is_ridge_regression_with_balanced_classes():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (90, 7))
    classes = np.repeat([0, 1, 2], [60, 20, 10])
    x[:, 0] += classes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closed_form, "grouped_folds", lambda *_: [])
        head = fit(of(x), (7,), classes, None, 3)
    weight = 90 / (3 * np.bincount(classes)[classes])
    mean = np.average(x, axis=0, weights=weight)
    std = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weight))
    model = Ridge(30 * 7).fit((x - mean) / std, np.eye(3)[classes] - 1 / 3, sample_weight=weight)
    np.testing.assert_allclose(scores(head, x), model.predict((x - mean) / std), atol=1e-4)
    np.testing.assert_allclose(head.mean, mean, atol=1e-4)
    np.testing.assert_allclose(head.std, std, atol=1e-4)


def test_a_view_that_tells_nothing_counts_for_little_and_the_sum_is_as_good_as_its_best_part():
    rng = np.random.default_rng(1)
    x, classes, groups, sizes = people(rng, 12, 40, 3, 20, 0.4)
    unknown, wanted, _, _ = people(rng, 20, 40, 3, 20, 0.4)
    head = fit(of(x), sizes, classes, groups, 2)
    alone = fit(of(x[:, :20]), (20,), classes, groups, 2)
    both, best = (
        balanced_accuracy(wanted, scores(h, unknown[:, : len(h.mean)]).argmax(1))
        for h in (head, alone)
    )
    assert best > 0.7
    assert both > best - 0.03
    counts = head.shares * head.spread
    assert counts[1:].max() < 0.5 * counts[0]


def test_held_out_scores_have_not_seen_their_group():
    """Each person has a class and features of their own: seen, they would give it away."""
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(40), 10)
    classes = np.tile([0, 1], 20)[groups]
    x = (3 * rng.standard_normal((40, 30)))[groups] + rng.standard_normal((400, 30))
    head = fit(of(x), (30,), classes, groups, 2)
    assert balanced_accuracy(classes, scores(head, x).argmax(1)) > 0.75
    assert balanced_accuracy(classes, head.held_out.argmax(1)) < 0.65


@settings(max_examples=15, deadline=None)
@given(st.floats(0.1, 0.9), st.integers(0, 1000))
def test_no_imbalance_makes_it_predict_one_class(share, seed):
    rng = np.random.default_rng(seed)
    x, classes, groups, sizes = people(rng, 10, 40, 2, 10, 1.0, share)
    head = fit(of(x), sizes, classes, groups, 2)
    recall = [(scores(head, x).argmax(1) == c)[classes == c].mean() for c in (0, 1)]
    assert min(recall) > 0.55


def test_further_examples_are_learnt_from_if_held_out_groups_gain():
    rng = np.random.default_rng(3)
    x, classes, groups, sizes = people(rng, 6, 8, 2, 20, 0.5)
    alike, theirs, _, _ = people(rng, 60, 8, 2, 20, 0.5)
    plain = fit(of(x), sizes, classes, groups, 2)
    right, wrong = (
        fit(of(x), sizes, classes, groups, 2, Further(of(alike), labels, 10.0))
        for labels in (theirs, 1 - theirs)
    )
    assert right.with_further
    assert not wrong.with_further
    np.testing.assert_array_equal(wrong.weight, plain.weight)
    unknown, wanted, _, _ = people(rng, 30, 30, 2, 20, 0.5)
    found = [balanced_accuracy(wanted, scores(h, unknown).argmax(1)) for h in (plain, right)]
    assert found[1] > found[0] + 0.03


def test_what_was_made_from_a_group_is_held_out_with_it():
    """Copies of a group would give away its classes, where nothing else tells them."""
    rng = np.random.default_rng(7)
    groups, classes = np.repeat(np.arange(12), 20), rng.integers(0, 2, 240)
    x = rng.standard_normal((240, 200))
    own, others = (
        fit(of(x), (200,), classes, groups, 2, Further(of(x), classes, 10.0, made_from))
        for made_from in (groups, None)
    )
    assert balanced_accuracy(classes, own.held_out.argmax(1)) < 0.6
    assert balanced_accuracy(classes, others.held_out.argmax(1)) > 0.7


def test_what_was_made_from_all_that_is_known_is_judged_by_the_others():
    """Copies of those it was made from tell their classes, and nothing of others."""
    rng = np.random.default_rng(7)
    groups, classes = np.repeat(np.arange(12), 20), rng.integers(0, 2, 240)
    x, unseen = rng.standard_normal((240, 200)), np.repeat(np.arange(12) >= 8, 20)
    made_of = np.flatnonzero(~unseen)
    plain = fit(of(x), (200,), classes, groups, 2)
    for labels in (classes, 1 - classes):
        further = Further(of(x[made_of]), labels[made_of], 10.0, unseen=unseen)
        head = fit(of(x), (200,), classes, groups, 2, further)
        np.testing.assert_array_equal(head.held_out[made_of], plain.held_out[made_of])
        assert (head.held_out[unseen] != plain.held_out[unseen]).any() == head.with_further
    assert not fit(
        of(x), (200,), classes, groups, 2, Further(of(x), classes, 10.0, unseen=np.zeros(240, bool))
    ).with_further


def test_a_class_that_is_rarer_in_what_is_known_is_not_leant_against():
    """People have one class more often than the other, and there is nothing else to find."""
    found = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(6), 60)
        classes = (rng.random(360) < np.linspace(0.2, 0.8, 6)[groups]).astype(int)
        head = fit(of(rng.standard_normal((360, 20))), (20,), classes, groups, 2)
        found.append(roc_auc_score(classes, head.held_out[:, 1]))
    assert np.mean(found) == pytest.approx(0.5, abs=0.03)


def test_three_classes_and_a_constant_feature():
    rng = np.random.default_rng(4)
    groups, classes = np.repeat(np.arange(9), 30), rng.integers(0, 3, 270)
    x = rng.standard_normal((270, 8)) + np.eye(3, 8)[classes] * 2
    x[:, 7] = 5.0
    head = fit(of(x), (4, 4), classes, groups, 3)
    assert np.isfinite(head.weight).all()
    assert not head.weight[7].any()
    assert balanced_accuracy(classes, head.held_out.argmax(1)) > 0.7


def test_two_people_and_a_class_that_one_has_alone_are_enough_to_be_fitted():
    rng = np.random.default_rng(5)
    x, groups = rng.standard_normal((40, 6)), np.repeat([0, 1], 20)
    for classes in (np.repeat([0, 1], 20), np.tile([0, 1], 20)):
        head = fit(of(x), (3, 3), classes, groups, 2)
        assert np.isfinite(scores(head, x)).all()


def test_sharpness_makes_trials_as_sure_as_they_may_be():
    rng = np.random.default_rng(6)
    trials, classes = np.repeat(np.arange(400), 30), np.repeat(rng.integers(0, 2, 400), 30)
    sign = 2 * classes - 1
    of_trial = np.repeat(rng.normal(0, 0.5, 400), 30)
    evidence = 0.5 * sign + of_trial + rng.normal(0, 1.5, len(trials))
    raw = np.stack([-0.2 * evidence, 0.2 * evidence], 1)
    found = sharpness(trials, classes, raw)
    p = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
    mean, sharp = (frame_and_trial(trials, classes, p, None, s)["trial"] for s in (1.0, found))
    assert found > 2
    assert sharp["ece"] < mean["ece"] / 2
    assert sharp["ece"] < 0.1
    assert sharp["auc"] == mean["auc"]
    assert sharp["balanced_accuracy"] == mean["balanced_accuracy"]
