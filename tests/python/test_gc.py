# SPDX-License-Identifier: Apache-2.0
"""sluice.gc cleans up after the dead: one channel, or all of a directory."""

import os

import pytest
import sluice

NOTHING = {"dead_members": 0, "lanes": 0, "channel": False, "files": 0, "dropped_messages": 0}


def dies_with_a_backlog(child, name):
    child(f"out = sluice.Producer({name!r}); out.send({{'x': b'1'}}); os.kill(os.getpid(), 9)").finish(-9)


def test_without_a_name_all_channels_are_cleaned_up(child):
    dies_with_a_backlog(child, "a")
    dies_with_a_backlog(child, "b")
    with sluice.Producer("alive"):
        done = sluice.gc()
        assert list(done) == ["a", "alive", "b"]
        assert done["alive"] == {**NOTHING, "error": None}
        assert done["a"] == done["b"] == {**NOTHING, "dead_members": 1, "error": None}
        assert sluice.list() == ["a", "alive", "b"]  # their backlogs stay
        done = sluice.gc(drop=True)
        assert done["a"]["channel"] and done["a"]["dropped_messages"] == 1 and done["a"]["error"] is None
        assert sluice.list() == ["alive"]
    assert sluice.gc() == sluice.gc(None) == {}


def test_the_directory_may_be_named(child, directory):
    dies_with_a_backlog(child, "a")
    os.mkdir(directory + "/other")
    assert sluice.gc(directory=directory + "/other") == sluice.gc(None, directory + "/other", drop=True) == {}
    os.rmdir(directory + "/other")
    assert sluice.gc(directory=directory, drop=True)["a"]["channel"]


def test_one_that_cannot_be_cleaned_up_does_not_keep_it_from_the_rest(child, directory):
    dies_with_a_backlog(child, "z")
    with open(directory + "/sluice.a", "w") as file:
        file.write("not a channel")
    with pytest.raises(sluice.Error) as caught:
        sluice.gc("a")
    done = sluice.gc(drop=True)
    assert {**done["a"], "error": None} == {**NOTHING, "error": None}
    assert type(done["a"]["error"]) is type(caught.value) and str(done["a"]["error"]) == str(caught.value)
    assert done["z"]["channel"] and done["z"]["error"] is None
    os.unlink(directory + "/sluice.a")


def test_with_a_name_it_is_that_channel(child):
    dies_with_a_backlog(child, "a")
    dies_with_a_backlog(child, "b")
    assert sluice.gc("a", drop=True)["channel"]
    assert sluice.list() == ["b"]
    with pytest.raises(sluice.NotFound):
        sluice.gc("a")
    sluice.gc(drop=True)
