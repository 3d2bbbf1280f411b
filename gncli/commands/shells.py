"""How a shell asks for suggestions, and is told: click's own machinery, with scripts and quoting of ours.

Notes
-----
The scripts run gncli with `VARIABLE` in its environment. What click's own ones do not do: bash breaks a word at a colon
and at ``=``, and what stands before that must not be said again; what bash inserts is quoted here, or left out where no
quoting is safe; files are those with the right endings; in fish a comma is part of a value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    split_arg_string,
)

from gncli.commands.suggest import listed

VARIABLE = "_GNCLI_COMPLETE"

_BASH = r"""# Suggestions of gncli for bash 4 or newer. Try them in this shell:
#
#     source <(gncli completion bash)
#
# To have them in every shell, put that line at the end of ~/.bashrc. It takes 0.1 s each time; this takes none:
#
#     mkdir -p ~/.local/share/bash-completion/completions
#     gncli completion bash > ~/.local/share/bash-completion/completions/gncli
#
# where the bash-completion package is in use, which loads it when it is first needed.

_gncli_completion() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            shell,*) compopt -o default ;;
            file,*) compopt -o filenames && COMPREPLY+=("${line#*,}") ;;
            *) COMPREPLY+=("${line#*,}") ;;
        esac
    done < <(
        _GNCLI_LINE=${COMP_LINE:0:COMP_POINT} _GNCLI_BREAKS=$COMP_WORDBREAKS _GNCLI_COMPLETE=bash_complete \
            "${1/#\~\//$HOME/}" 2>/dev/null </dev/null
    )
}

complete -F _gncli_completion gncli
"""

_ZSH = r"""#compdef gncli

# Suggestions of gncli for zsh. Try them in this shell, after compinit:
#
#     source <(gncli completion zsh)
#
# To have them in every shell, write them into a directory of your $fpath, such as this one:
#
#     mkdir -p ~/.zfunc && gncli completion zsh > ~/.zfunc/_gncli
#
# and have these lines in ~/.zshrc:
#
#     fpath=(~/.zfunc $fpath)
#     autoload -Uz compinit && compinit

_gncli() {
    local -a response plain described
    local type key descr
    response=("${(@f)$(COMP_WORDS="${words[1,CURRENT]}" COMP_CWORD=$((CURRENT-1)) _GNCLI_COMPLETE=zsh_complete \
        ${words[1]/#\~\//$HOME/} 2>/dev/null </dev/null)}")
    compset -P '--*='
    for type key descr in ${response}; do
        if [[ $type == file ]]; then
            _path_files -g "$key"
            _path_files -/
        elif [[ $descr == _ ]]; then
            plain+=("$key")
        else
            described+=("$key:$descr")
        fi
    done
    (( $#described )) && _describe -V unsorted described -U
    (( $#plain )) && compadd -U -i "$IPREFIX" -V unsorted -a plain
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _gncli "$@"
else
    compdef _gncli gncli
fi
"""

_FISH = r"""# Suggestions of gncli for fish. Try them in this shell:
#
#     gncli completion fish | source
#
# To have them in every shell:
#
#     mkdir -p ~/.config/fish/completions
#     gncli completion fish > ~/.config/fish/completions/gncli.fish

function _gncli_completion
    set -l answer (env _GNCLI_COMPLETE=fish_complete COMP_WORDS=(commandline -cp | string collect) \
        COMP_CWORD=(commandline -ct | string collect) gncli 2>/dev/null </dev/null)
    for line in $answer
        printf '%s\n' (string split -m 1 , -- $line)[2]
    end
end

complete --no-files --command gncli --arguments "(_gncli_completion)"
"""


class _Shell(ShellComplete):
    """What the three have in common."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Return what the last word, or the value in ``--option=value``, may become."""
        head, equals, value = incomplete.partition("=")
        if equals and head.startswith("--"):
            args, incomplete = [*args, head], value
        sign = "-" if args[-1:] == ["--sort"] and incomplete.startswith("-") else ""  # which click takes for an option
        found = super().get_completions(args, incomplete.removeprefix(sign))
        for item in found if sign else ():
            item.value = f"{sign}{item.value}"
        return found


class _Bash(_Shell, BashComplete):
    source_template = _BASH

    def complete(self) -> str:
        """Return the answer to the script: what is put in the place of the word that bash sees."""
        line, breaks = os.environ.get("_GNCLI_LINE", ""), os.environ.get("_GNCLI_BREAKS", "")
        word = Word.last_of(line, breaks)
        if word is None:
            return ""
        items = self.get_completions(split_arg_string(line[: word.start])[1:], word.text)
        lines: list[tuple[str, str | None]] = []
        for item in items:
            if item.type == "file" and word.expands:  # which bash alone can do
                lines.append(("shell", ""))
            elif item.type != "file":
                lines.append(("plain", word.quoted(item.value)))
            else:
                names = listed(item.value, item.suffixes)
                lines += [("file", word.rest(name).removesuffix("/")) for name in names]
        return "\n".join(f"{kind},{value}" for kind, value in lines if value is not None)


class _Zsh(_Shell, ZshComplete):
    source_template = _ZSH

    def format_completion(self, item: CompletionItem) -> str:
        """Return the three lines of a suggestion; of files they are a pattern of zsh."""
        if item.type == "file":
            item.value = f"(#i)*({'|'.join(item.suffixes)})(-.)"
        return super().format_completion(item)


class _Fish(_Shell, FishComplete):
    source_template = _FISH

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Return what the whole last word may become, files one by one."""
        head = re.match(r"--[^=]*=", incomplete)
        found: list[CompletionItem] = []
        for item in super().get_completions(args, incomplete):
            names = listed(item.value, item.suffixes) if item.type == "file" else [item.value]
            found += [CompletionItem(f"{head[0] if head else ''}{name}", help=item.help) for name in names]
        return found


class Word:
    """The last word of a line for bash, as it was typed.

    Parameters
    ----------
    start : int
        Where in the line it begins.
    text : str
        What it says, without quotes.
    tail : str
        The end of `text` that bash takes for the word, and replaces.
    quote : str
        The quote that is open.
    expands : bool
        Whether bash would put something else in the place of a part of it, a variable's value.
    """

    def __init__(self, start: int, text: str, tail: str, quote: str, expands: bool) -> None:
        self.start, self.text, self.tail, self.quote, self.expands = start, text, tail, quote, expands

    @classmethod
    def last_of(cls, line: str, breaks: str) -> Word | None:
        r"""Return the last word of `line`; None if it is quoted in a way that no suggestion could go on with.

        Examples
        --------
        >>> word = Word.last_of(r"gncli stats --gamma=my\ x.h5::/no", "=:")
        >>> word.text, word.tail, word.quoted("my x.h5::/no one")
        ('--gamma=my x.h5::/no', '/no', '/no\\ one')
        """
        start, text, tail, quote, closed, escaped, expands = 0, "", "", "", False, False, False
        for place, character in enumerate(line):
            expands = expands or (character in "$`" and quote != "'" and not escaped)
            if escaped:
                text, tail, escaped = text + character, tail + character, False
            elif character == "\\" and quote != "'":
                escaped = True
            elif quote:
                if character == quote:
                    quote, closed = "", True
                else:
                    text, tail = text + character, tail + character
            elif character in "'\"":
                closed = closed or bool(tail)  # as good as closed: the word goes on from before the quote
                quote, tail = character, ""
            elif character.isspace():
                start, text, tail, closed, expands = place + 1, "", "", False, False
            else:
                text += character
                tail = "" if character in breaks else tail + character
        return None if closed else cls(start, text, tail, quote, expands)

    def rest(self, value: str) -> str:
        """Return what takes the place of the tail, if `value` is what the word, or what is after its ``=``, becomes."""
        typed = len(self.text)
        head = re.match(r"--[^=]*=", self.text)
        before = head[0] if head else ""
        return f"{before}{value}"[typed - len(self.tail) :]

    def quoted(self, value: str) -> str | None:
        """Return the same as the shell has to read it; None if no way of quoting it goes on from what was typed."""
        if self.expands:
            return None
        rest = self.rest(value)
        if self.quote:
            return None if re.search("'" if self.quote == "'" else r'["$`\\!]', rest) else rest
        return re.sub(r"[^\w@%+=:,./-]", r"\\\g<0>", rest)


SHELLS: Mapping[str, type[_Shell]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}


def script(shell: str) -> str:
    """Return the script for one of `SHELLS`."""
    return SHELLS[shell].source_template


def answer(command: click.Command, instruction: str) -> str:
    """Return what the script asked for with `VARIABLE`, ``bash_complete``; nothing for what no script of ours asks."""
    shell, _, what = instruction.partition("_")
    if shell not in SHELLS or what != "complete":
        return ""
    given: dict[str, Any] = {}
    said = SHELLS[shell](command, given, "gncli", VARIABLE).complete()
    return said + "\n" if said else ""
