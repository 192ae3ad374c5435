"""Make JavaScript and CSS smaller: remove comments and white space, and write (x) => as x =>, 0.5 as .5, const as let.

Declarations that follow each other become one: let a = 1, b = 2.

Names stay, so that the script of a page can be read in a debugger. Text in strings, template literals and regular
expressions does not change.
"""

import re
from collections.abc import Iterator

OPERATORS = "=*/%<>!&|?:,;(){}[]"  # white space around them has no meaning; + and - can be doubled
CONTINUES_AFTER = re.compile(r"([=*/%<>!&|?:,;({\[]|=>)\n+")  # an expression does not end at these
CONTINUES_BEFORE = re.compile(r"\n+([=*%<>&|?:,;)}\].])")
DECLARATION = re.compile(r"(?<![.\w$])(?:(?:function\*?|class)\s+([\w$]+)|(?:const|let)\b(?=\s*[\w${\[]))")
NEXT_DECLARATION = re.compile(r"let(?:(?=[{\[])| )")
CONST = re.compile(r"(?<![.\w$])const\b(?=[ {\[])")  # a binding that nothing assigns is the same with let
LAST_SEMICOLON = re.compile(r"(?<![;({]);\}")  # of a block; the body of a loop must not be empty
PARAMETER = re.compile(r"(?<![\w$])\(([\w$]+)\)=>")  # of a function with one
ZERO = re.compile(r"(?<![\w$.])0(?=\.\d)")  # 0.5 is .5
AROUND_OPERATOR = re.compile(rf" ?([{re.escape(OPERATORS)}]) ?")
AROUND_SIGN = re.compile(r"(?<![+-]) ([+-]) (?![+-])")
REGEX_FOLLOWS = re.compile(r"(?:^|[(,=:\[!&|?{};]|\breturn|\btypeof)\s*$")
WORD = re.compile(r"[\w$]+")
QUOTED = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'""")
REGEX = re.compile(r"/(?![*/])(?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\\[\n])+/\w*")
COMMENT = re.compile(r"//[^\n]*|/\*(?:(?!\*/)[\s\S])*\*/")


def compact_js(source: str) -> str:
    """Return a script that does the same. Line ends stay where a statement could end."""
    pieces: list[tuple[bool, str]] = []
    for is_code, code in _pieces(source):
        pieces.append((is_code, _compact_code(code, after_text=bool(pieces)) if is_code else code))
    return _join_declarations(pieces).strip()


def declared_names(source: str) -> set[str]:
    """Return the names that a script or module declares at its top level, without those of imports."""
    code = "".join(code if is_code else '""' for is_code, code in _pieces(source))
    names: set[str] = set()
    depth = position = 0
    while position < len(code):
        if depth == 0 and (match := DECLARATION.match(code, position)):
            position = match.end()
            names |= {match[1]} if match[1] else _bound_names(code, position)
            continue
        depth += (code[position] in "([{") - (code[position] in ")]}")
        position += 1
    return names


def compact_css(source: str) -> str:
    """Return a style sheet with the same rules."""
    source = re.sub(r"/\*(?:(?!\*/)[\s\S])*\*/", "", source)
    source = re.sub(r"\s+", " ", source)
    source = re.sub(r" ?([{};]) ?", r"\1", source)
    source = re.sub(r"([,:]) | ?(>) ?", r"\1\2", source)
    source = re.sub(r"""\[([\w-]+)="([a-z][\w-]*)"\]""", r"[\1=\2]", source)
    source = re.sub(r"#([0-9a-f])\1([0-9a-f])\2([0-9a-f])\3(?![\w-])", r"#\1\2\3", source)
    return ZERO.sub("", source).replace(";}", "}").strip()


def _segments(source: str) -> Iterator[tuple[bool, str]]:
    """Yield (True, a piece of code) and (False, text that must not change), without comments."""
    position, before = 0, ""
    while position < len(source):
        character = source[position]
        if comment := COMMENT.match(source, position):
            piece: tuple[bool, str] | None = (True, " ") if comment[0].startswith("/*") else None
            position = comment.end()
        elif character in "\"'":
            piece = (False, _match(QUOTED, source, position))
            position += len(piece[1])
        elif character == "`":
            stop = _end_of_template(source, position)
            piece, position = (False, source[position:stop]), stop
        elif character == "/" and REGEX_FOLLOWS.search(before):
            piece = (False, _match(REGEX, source, position))
            position += len(piece[1])
        else:
            piece, position = (True, character), position + 1
        if piece is not None:
            before = (before + piece[1])[-40:]
            yield piece


def _pieces(source: str) -> Iterator[tuple[bool, str]]:
    """Yield code and text in turns, each as a whole, code first and last."""
    code = ""
    for is_code, text in _segments(source):
        if is_code:
            code += text
        else:
            yield True, code
            yield False, text
            code = ""
    yield True, code


def _bound_names(code: str, start: int) -> set[str]:
    """Return the names that a declaration binds, from after its keyword; of patterns all words that are not keys."""
    names: set[str] = set()
    depth, is_target, position = 0, True, start
    while position < len(code):
        character = code[position]
        if depth == 0 and (character == ";" or (character == "\n" and re.match(r"\n\S", code[position:]))):
            break  # the declaration ends
        if word := WORD.match(code, position):
            if is_target and not re.match(r"\s*:", code[word.end() :]):
                names.add(word[0])
            position = word.end()
            continue
        if depth == 0 and character in "=,":
            is_target = character == ","
        depth += (character in "([{") - (character in ")]}")
        position += 1
    return names


def _join_declarations(pieces: list[tuple[bool, str]]) -> str:
    """Write declarations that follow each other as one, in compact code."""
    result: list[str] = []
    is_declaration = [False]  # by open bracket: whether its present statement is a declaration
    is_start = True  # of a statement
    for is_code, code in pieces:
        if not is_code:
            result.append(code)
            is_start = False
            continue
        position = 0
        while position < len(code):
            character = code[position]
            if is_start and (match := NEXT_DECLARATION.match(code, position)):
                if is_declaration[-1] and result[-1] == ";":
                    result[-1] = ","
                else:
                    result.append(match[0])
                is_declaration[-1], is_start, position = True, False, match.end()
                continue
            if is_start and character not in " \n":
                is_declaration[-1] = False
            if character in "([{":
                is_declaration.append(False)
            elif character in ")]}":
                is_declaration.pop()
            if character == "\n":
                is_declaration[-1] = False
            is_start = character in ";{\n" or (character == "}" and not is_declaration[-1])
            result.append(character)
            position += 1
    return "".join(result)


def _match(pattern: re.Pattern[str], source: str, position: int) -> str:
    match = pattern.match(source, position)
    if match is None:
        line = source[position:].partition("\n")[0]
        raise ValueError(f"a string or regular expression must end on its line, got {line}")
    return match[0]


def _end_of_template(source: str, start: int) -> int:
    """Return the position after a template literal, whose expressions can contain others."""
    position = start + 1
    while position < len(source):
        if source[position] == "\\":
            position += 2
        elif source[position] == "`":
            return position + 1
        elif source.startswith("${", position):
            position = _end_of_expression(source, position + 2)
        else:
            position += 1
    raise ValueError(f"a template literal must end, got {source[start : start + 40]}")


def _end_of_expression(source: str, start: int) -> int:
    position, depth = start, 1
    while depth:
        if position >= len(source):
            raise ValueError(f"an expression of a template literal must end, got {source[start : start + 40]}")
        character = source[position]
        if character == "`":
            position = _end_of_template(source, position)
        elif character in "\"'":
            position += len(_match(QUOTED, source, position))
        else:
            depth += (character == "{") - (character == "}")
            position += 1
    return position


def _compact_code(code: str, *, after_text: bool) -> str:
    """Remove white space from code between two texts; after a text, a line end at the beginning stays."""
    code = re.sub(r"[ \t]+", " ", re.sub(r"\s*\n\s*", "\n", code))
    code = CONST.sub("let", code)
    code = AROUND_SIGN.sub(r"\1", AROUND_OPERATOR.sub(r"\1", code))
    code = ZERO.sub("", PARAMETER.sub(r"\1=>", code))
    code = CONTINUES_BEFORE.sub(r"\1", CONTINUES_AFTER.sub(r"\1", code))
    code = LAST_SEMICOLON.sub("}", code)
    return code if after_text else code.lstrip()
