# SPDX-License-Identifier: Apache-2.0
"""What editors and type checkers are told is what there is."""

import ast
import inspect
import pathlib
import typing

import pytest
import sluice
from sluice import _sluice

STUBS = {
    node.name: node
    for node in ast.parse((pathlib.Path(sluice.__file__).parent / "_sluice.pyi").read_text()).body
    if isinstance(node, (ast.ClassDef, ast.FunctionDef))
}
CLASSES = ["Consumer", "CudaTensor", "Message", "Poller", "Producer", "Reservation", "Tensor"]


def public(names):
    return {name for name in names if not name.startswith("_")}


def members(stub):
    named = {each.name: each for each in stub.body if isinstance(each, ast.FunctionDef)}
    return {**named, **{each.target.id: each for each in stub.body if isinstance(each, ast.AnnAssign)}}


def parameters(stub):
    arguments = stub.args
    plain = [each.arg for each in arguments.posonlyargs + arguments.args]
    rest = [each.arg for each in (arguments.vararg, *arguments.kwonlyargs, arguments.kwarg) if each is not None]
    return plain, rest


def test_the_stubs_name_all_that_is_public():
    assert public(vars(_sluice)) == public(STUBS)


@pytest.mark.parametrize("name", CLASSES)
def test_the_stubs_name_the_same_members(name):
    assert public(vars(getattr(_sluice, name))) == public(members(STUBS[name]))


@pytest.mark.parametrize("name", CLASSES)
def test_signatures_are_those_of_the_stubs(name):
    for member, stub in members(STUBS[name]).items():
        there = getattr(getattr(_sluice, name), member, None)
        if member.startswith("_") or not inspect.ismethoddescriptor(there):
            continue
        assert there.__doc__, member
        of = inspect.signature(there).parameters.values()
        plain = [each.name for each in of if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
        rest = [each.name for each in of if each.name not in plain]
        assert (plain[0], *parameters(stub)) == ("self", plain, rest)


def test_signatures_of_what_is_bound():
    with sluice.Consumer("x") as inp:
        assert str(inspect.signature(inp.receive)) == "(timeout=None)"
        assert str(inspect.signature(inp.close)) == "(give_back=False)"
    assert str(inspect.signature(sluice.stat)) == "(name, directory=None)"


@pytest.mark.parametrize("kind", [sluice.Queue, sluice.Producer, sluice.Consumer])
def test_what_is_written_in_python_says_its_types(kind):
    for name, member in vars(kind).items():
        if (
            inspect.isfunction(member)
            and name not in ("__getstate__", "__setstate__")
            and (name.startswith("__") or not name.startswith("_"))
        ):
            types = typing.get_type_hints(member)
            assert set(types) == set(inspect.signature(member).parameters) - {"self"} | {"return"}, name
