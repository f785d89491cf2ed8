"""How a command is written: a typed function, whose parameters are its arguments and whose docstring is its help.

Parameters before the star are positional, those behind it options; one without a default is required. A misspelt option
or a wrong value ends the command with one line and status 2.
"""

from __future__ import annotations

import difflib
import inspect
import json
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser, auto_cli

from idlora_pl.cli.replaced_lists import replaced_lists

Verb = Callable[..., None]
_UNKNOWN = re.compile(r"(?:unrecognized arguments: --|does not accept option ')([\w.-]+)")
_UNKNOWN_PART = re.compile(r"Option '([\w-]+)' is not accepted")
_NONE = r"<class 'NoneType'>"
_OPTIONAL = re.compile(
    rf"Does not validate against any of the Union subtypes Subtypes: \[[^<]+, {_NONE}\] Errors: - (.+?) "
    rf"- Expected a {_NONE} Given value type: <class '\w+'> Given value: (.+)"
)
"""What jsonargparse says of an option of one type that may be left out."""


def call(tool: Verb | Mapping[str, Verb], words: Sequence[str], *, prog: str, description: str = "") -> None:
    """Run a function, or one of several by the name that comes first, with words of a command line.

    Beside jsonargparse's ways, an option that is true or false may stand without a value (`--check`), a list may be
    given entry by entry (`--paired A B --paired A C`), and dashes may stand for underscores (`--bound-seed`).

    Args:
        tool: A function, or functions by verb.
        words: What follows the command's name.
        prog: The command's name, such as "idlora score".
        description: What the help says of several verbs; that of a function is in its docstring.
    """
    verbs = list(tool.values()) if isinstance(tool, Mapping) else [tool]
    for said in replaced_lists(words):
        print(f"{prog.split()[0]}: {said}", file=sys.stderr)
    given = in_snake_case(words, {name for verb in verbs for name in inspect.signature(verb).parameters})
    given = spelt_out(given, {flag for verb in verbs for flag in flags_of(verb)})
    given = gathered(given, {name: n for verb in verbs for name, n in lists_of(verb).items()})
    about = description or (inspect.getdoc(verbs[0]) or "").split("\nArgs:")[0]
    parts: Any = dict(tool) if isinstance(tool, Mapping) else tool
    auto_cli(
        parts, args=given, as_positional=True, allow_abbrev=False, parser_class=OneLineParser, prog=prog,
        description=about,
    )  # fmt: skip


class OneLineParser(ArgumentParser):
    """A parser that says what is wrong in one line, without a page of usage before it."""

    parts: Collection[str] = ()
    """Options that are set within another one, which the parser does not list by themselves."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one line and exit with status 2."""
        parser = getattr(ex, "subcommand_parser", None) or self
        command = parser.prog.replace(" [options]", "")
        known = [option.lstrip("-") for action in parser._actions for option in action.option_strings]
        known += self.parts
        said = f"{command.split()[0]}: {_sentence(message, known)}; `{command} --help` lists the options"
        print(said, file=sys.stderr)
        sys.exit(2)


def _sentence(message: str, known: list[str]) -> str:
    """Put a message on one line and add the nearest of the known names to an unknown one.

    Example:
        >>> _sentence("unrecognized arguments: --model.lora.rang=3", ["model.lora.rank", "model.seed"])
        'unrecognized arguments: --model.lora.rang=3; did you mean model.lora.rank?'
    """
    line = _OPTIONAL.sub(r"\1. Got value: \2", " ".join(message.split()))
    if part := _UNKNOWN_PART.search(line):
        full = {name.rpartition(".")[2]: name for name in known}
        near = [full[last] for last in _nearest(part[1], full)]
    else:
        unknown = _UNKNOWN.search(line)
        near = _nearest(unknown[1], known) if unknown else []
    return f"{line}; did you mean {near[0]}?" if near else line


def _nearest(name: str, known: Collection[str]) -> list[str]:
    return difflib.get_close_matches(name, known, n=1, cutoff=0.5)


def flags_of(verb: Verb) -> set[str]:
    """Return the options of a verb that are false by default."""
    return {f"--{name}" for name, value in inspect.signature(verb).parameters.items() if value.default is False}


def lists_of(verb: Verb) -> dict[str, int]:
    """Return the options of a verb that are lists, each with the number of words of an entry."""
    hints = {name: get_args(hint) for name, hint in get_type_hints(verb).items() if get_origin(hint) is list}
    return {f"--{name}": len(get_args(entry)) or 1 for name, (entry,) in hints.items()}


def in_snake_case(words: Sequence[str], names: Collection[str]) -> list[str]:
    """Write underscores for dashes in the names of known options.

    Example:
        >>> in_snake_case(["--bound-seed=1", "--no-option", "a-b"], {"bound_seed"})
        ['--bound_seed=1', '--no-option', 'a-b']
    """
    parts = [(word, *word.removeprefix("--").partition("=")) for word in words]
    return [
        f"--{plain}{equals}{value}" if word.startswith("--") and (plain := name.replace("-", "_")) in names else word
        for word, name, equals, value in parts
    ]


def spelt_out(words: Sequence[str], flags: Collection[str]) -> list[str]:
    """Give flags that stand without a value the value true.

    Example:
        >>> spelt_out(["in", "--verify", "--name", "a"], {"--verify"})
        ['in', '--verify=true', '--name', 'a']
    """
    return [
        f"{word}=true" if word in flags and following not in ("true", "false") else word
        for word, following in pairwise([*words, ""])
    ]


def gathered(words: Sequence[str], lists: Mapping[str, int]) -> list[str]:
    """Write entries of lists so that each is added to those before it; a whole list in brackets stays as it is.

    Example:
        >>> gathered(["--paired", "a", "b", "--seed", "1"], {"--paired": 2})
        ['--paired+=[["a", "b"]]', '--seed', '1']
    """
    return list(_gathered(list(words), lists))


def _gathered(left: list[str], lists: Mapping[str, int]) -> Iterator[str]:
    while left:
        word = left.pop(0)
        name, equals, value = word.partition("=")
        if name not in lists or value.startswith("["):
            yield word
            continue
        entry: list[Any] = [value] if equals else []
        while len(entry) < lists[name] and left and not left[0].startswith("--"):
            entry.append(left.pop(0))
        is_word = lists[name] == 1 and entry
        yield f"{name}+={json.dumps(entry if is_word else [entry])}" if entry else word
