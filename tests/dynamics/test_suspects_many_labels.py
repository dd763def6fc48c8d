"""Suspects among examples with a label a pixel or token: what is claimed of them, what is not, and how it is drawn."""

from __future__ import annotations

import base64
import dataclasses
import math

import numpy as np
import pytest
import torch
from suspect_runs import drawn

from reinvest.core.errors import InvalidValue
from reinvest.dynamics.suspects import find_suspects
from reinvest.dynamics.suspects_text import GAP, LEVELS, plain, statements


def maps(count=1000, **more):
    """(Trajectories of label maps, bool [N] wrong ones): the share of right pixels is 1/4 to the end for half of them."""
    run, bad, _ = drawn(count=count)
    share = torch.where(torch.arange(count) % 2 == 0, 0.25, 0.75)
    correct = share.unsqueeze(1).expand(run.loss.shape).contiguous()
    return dataclasses.replace(run, predicted=None, correct=correct, labels=None, **more), bad


def test_a_share_of_right_pixels_is_no_answer_that_is_learned_or_forgotten():
    run, bad = maps()
    found = find_suspects(run, most=1000)
    assert set(found.found) == {"high loss"}
    assert found.learned.isnan().all() and found.forgotten.isnan().all()
    assert float(bad[found.ids[:50]].float().mean()) == 1.0
    twice = find_suspects([run, run], most=1000)
    assert twice.ids.tolist() == found.ids.tolist() and set(twice.found) == {"high loss"}


def test_a_high_loss_is_one_of_the_highest_tenth():
    run, _ = maps()
    assert find_suspects(run).found == {"high loss": 100}


def test_equal_pictures_with_one_map_are_doubles_and_with_two_a_conflict():
    hashes, contents = torch.arange(1000), torch.arange(1000)
    contents[7] = contents[8]
    contents[20], hashes[20] = contents[21], hashes[21]
    run, _ = maps(hashes=hashes)
    found = find_suspects(run, contents=contents, most=1000)
    assert sorted(found.of("label conflict").tolist()) == [7, 8]
    assert not {7, 8} & set(found.of("duplicate").tolist())
    assert {20, 21} <= set(found.of("duplicate").tolist()) | set(found.of("high loss").tolist())
    assert found.issues().sum() == 0


def test_a_given_label_cannot_be_asked_for():
    run, _ = maps()
    with pytest.raises(InvalidValue, match="one label an example, got label=0 for examples without"):
        find_suspects(run, label=0)


def test_the_sentences_speak_of_no_single_label():
    found = find_suspects(maps()[0])
    told = statements(found)
    assert told[0].startswith("an example of these data has no single label") and "the 100 listed" in told[0]
    assert not any("its label" in one or "label error" in one for one in told)


def test_the_scale_of_the_courses_begins_near_the_lowest_where_all_are_high():
    run, _ = maps()
    high = find_suspects(dataclasses.replace(run, loss=run.loss + 20))
    values = plain(high)
    levels = np.frombuffer(base64.b64decode(values["losses"]), np.uint8).reshape(len(high), values["points"])
    width = values["top"] - values["bottom"]
    back = values["bottom"] + levels / LEVELS * width
    true = np.log1p(high.losses.numpy())
    inside = (levels != GAP) & (true <= values["top"])
    assert np.abs(back - true)[inside].max() <= 0.51 * width / LEVELS
    assert math.log1p(20) <= values["bottom"] < values["top"]
    assert min(v for band in values["bands"] for v in band["low"]) < 20
    assert values["labelled"] is False and plain(find_suspects(drawn()[0]))["labelled"] is True
    assert plain(find_suspects(drawn()[0]))["bottom"] == 0.0
