"""Laws: the built pages of the package are those of web/, and bundled modules behave as modules do."""

import importlib.util
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from case_loops import loop_over

WEB = Path(__file__).parents[2] / "web"
PLACEHOLDERS = {
    "report": {"title", "payload"},
    "film": {"title", "payload"},
    "verify": {"subject", "summary", "rows", "remark"},
}


@pytest.fixture(scope="module")
def web_build() -> Any:
    spec = importlib.util.spec_from_file_location("web_build", WEB / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_built_pages_equal_a_fresh_build(web_build: Any) -> None:
    folder = files("glasscell.pages")
    assert {path.name for path in folder.iterdir() if path.name.endswith(".html")} == {
        f"{p}.html" for p in PLACEHOLDERS
    }
    assert set(web_build.PAGES) == set(PLACEHOLDERS)
    for page in PLACEHOLDERS:
        assert (folder / f"{page}.html").read_text("utf-8") == web_build.build(page), (
            f"run `make web`: {page} is outdated"
        )


@pytest.mark.parametrize("page", PLACEHOLDERS)
def test_a_built_page_has_the_placeholders_of_its_data_alone(web_build: Any, page: str) -> None:
    built = web_build.build(page)
    assert set(re.findall(r"\{\{(\w+)\}\}", built)) == PLACEHOLDERS[page]
    assert not re.search(r"^(import|export) ", built, re.MULTILINE)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", built)


def test_every_css_file_of_a_page_is_in_it_and_style_comes_first(
    web_build: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "shell.html").write_text("<style>{{style}}</style>{{body}}", encoding="utf-8")
    for name, source in {"z.css": "z {}", "style.css": "s {}", "a.css": "a {}", "body.html": "<p>"}.items():
        (tmp_path / "page" / name).write_text(source, encoding="utf-8")
    monkeypatch.setattr(web_build, "SOURCES", tmp_path)
    monkeypatch.setattr(web_build, "PAGES", {"page": ("", "")})
    assert web_build.build("page") == "<style>s{}\na{}\nz{}</style><p>"
    (tmp_path / "page" / "b.css").write_text("b { content: '{{x}}' }", encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape("b.css must not contain a placeholder, got {{x}}")):
        web_build.build("page")


def modules(folder: Path, **sources: str) -> Path:
    for name, source in sources.items():
        (folder / f"{name}.js").write_text(source, encoding="utf-8")
    return folder


def run_in_node(script: str) -> str:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed: it runs what was bundled")
    return subprocess.run([node, "-e", script], capture_output=True, text=True, check=True).stdout


def test_modules_become_one_script_that_does_the_same(web_build: Any, tmp_path: Path) -> None:
    folder = modules(
        tmp_path,
        app='import { value, twice as double } from "./a.js";\nimport * as b from "./b.js";\nconst hidden = 1;\n'
        'import {\n  Point,\n  order,\n} from "./c.js";\n'
        "console.log(double(value), b.value, b.ofA, new Point().x, hidden, order.join());\n",
        a="export const value = 21;\nconst hidden = 2;\nexport function twice(n) {\n  return hidden * n;\n}\n",
        b='export { value as ofA } from "./a.js";\nlet hidden = 3;\nconst own = "b";\nexport { own as value };\n',
        c='import { order } from "./d.js";\nexport class Point {\n  x = 4;\n}\norder.push("c");\nexport { order };\n',
        d='export const order = ["d"];\n',
    )
    assert run_in_node(web_build.bundle(folder / "app.js")) == "42 b 21 4 1 d,c\n"


def test_a_module_runs_once_however_often_it_is_imported(web_build: Any, tmp_path: Path) -> None:
    folder = modules(
        tmp_path,
        app='import { a } from "./a.js";\nimport { b } from "./b.js";\nconsole.log(a === b);\n',
        a='export { state as a } from "./state.js";\n',
        b='export { state as b } from "./state.js";\n',
        state="export const state = {};\n",
    )
    assert run_in_node(web_build.bundle(folder / "app.js")) == "true\n"


def test_names_that_modules_share_by_chance_stay_apart(web_build: Any, tmp_path: Path) -> None:
    """A private name as in another module, the same export twice, a new name that hides another module's name."""
    folder = modules(
        tmp_path,
        app='import { size, read } from "./a.js";\nimport { size as other, read as readOther } from "./b.js";\n'
        'import { shown, size as third } from "./c.js";\nimport { list } from "./d.js";\n'
        "const local = 0;\nconsole.log(size, read(), other, readOther(), shown(), third, list.join(), local);\n",
        a="export const size = 1;\nexport const local = 10;\nexport function read() {\n  return local;\n}\n",
        b="export const size = 2;\nlet [, { local, deep: [found = 20] }] = [0, { local: 3, deep: [] }];\n"
        "export function read() {\n  return (local += found);\n}\n",
        c='import { size as local, read } from "./a.js";\nimport * as all from "./b.js";\nconst size = 5;\n'
        'export { size } from "./b.js";\n'
        'export const shown = () => [size, local, read(), all.read(), all.size].join("/");\n',
        d='import { local as size } from "./a.js";\n'
        "function read(local) {\n  const shown = local;\n  return shown;\n}\n"
        "export const list = [read(size)];\n",
    )
    assert run_in_node(web_build.bundle(folder / "app.js")) == "1 10 2 23 5/1/10/43/2 2 10 0\n"


@pytest.mark.parametrize("page", ["report", "film"])
def test_no_name_of_a_script_hides_one_of_the_browser(web_build: Any, browser: Any, page: str) -> None:
    """Modules share a scope: `open` of one would be called by another that means the browser's."""
    names = web_build.read_modules(WEB / page / "app.js").scope
    assert len(names) > 20
    tab = browser.new_page()
    assert tab.evaluate("(names) => names.filter((name) => name in window)", list(names)) == []
    tab.close()


def test_declarations_that_follow_each_other_become_one(web_build: Any, tmp_path: Path) -> None:
    source = r"""const a = { b: [1, 2], c: "x;let y" };
let d;
const { b, c } = a;
const [e] = b;
const f = (x) => {
  const g = x;
  const h = `${((z) => { const u = z; const v = u; return v; })(g)};let `;
  return h;
};
const i = /;let /.test("a;let b");
for (let k = 0; k < 2; k++) d = k;
const j = function () { return 1; }
let l = 4
let m = 5;
switch (d) {
  case 1:
    const n = 6;
    let o = 7;
    if (n) d += o;
    const q = d;
    d = q;
}
class R { let = 8; }
console.log(a, b, c, d, e, f(3), i, j(), l, m, new R());
"""
    built = web_build.bundle(modules(tmp_path, app=source) / "app.js")
    assert run_in_node(built) == run_in_node(source)
    assert 'let a={b:[1,2],c:"x;let y"},d,{b,c}=a,[e]=b,f=x=>{let g=x,h=' in built
    assert "let k=0;k<2" in built


def test_comments_and_indentation_are_removed_and_the_script_does_the_same(web_build: Any, tmp_path: Path) -> None:
    source = """// A comment.
/**
 * Another: of `several lines`
 */
function f(a) {
  /** One line. */
  const url = "x://y"; // stays
  // return 0;
  return `${a} /* ${url} */`;
}
console.log(f(2), "// text");
"""
    built = web_build.bundle(modules(tmp_path, app=source) / "app.js")
    assert run_in_node(built) == "2 /* x://y */ // text\n"
    assert "comment" not in built
    assert "several" not in built
    assert "One line" not in built
    assert not re.search(r"^\s|\n\n(?!$)", built.rstrip(), re.MULTILINE)


def test_white_space_is_removed_where_it_has_no_meaning(web_build: Any, tmp_path: Path) -> None:
    source = r"""
let a = 3, n = 0; // a comment after code
const text = "a  =  b", single = 'c  //  d', nested = `x  ${ a > 2 ? `y  {  ${ "}" }` : "" }  z`;
const two = `line  1
  line 2`;
const same = / +\/ [/"'] *$/.test("  / / ") /* within */ && !/[^ ]  x/.test("x");
n = a - -2 + +a - 1
++n
const list = [
  1, 2,
]
;[n] = [n + list.length]
const words = { if : 1, "b c" : 2 }
const half = a / 2 / 1, label = a ? .5 : 1
function back() {
  return
  1
}
console.log(text, single, nested, two, same, n, words.if, words["b c"], half, label, back(), typeof "x", "if" in words)
"""
    built = web_build.bundle(modules(tmp_path, app=source) / "app.js")
    (tmp_path / "plain.js").write_text(source, encoding="utf-8")
    assert run_in_node(built) == run_in_node(source)
    assert "comment" not in built
    assert "within" not in built
    assert len(built) < 0.93 * len(source)


def test_a_style_sheet_keeps_its_rules(web_build: Any) -> None:
    source = "/* a */\na :focus, b > c { margin: 0 1px; color: red; }\n@media (min-width: 3px) { i { top: 0 } }\n"
    compact = web_build.compact_css(source)
    assert compact == "a :focus,b>c{margin:0 1px;color:red}@media (min-width:3px){i{top:0}}"
    source = '[role="group"] > a, [value="1.5"] { color: #ffeedd; fill: #abcdef; top: calc(1px + 2px) }'
    assert web_build.compact_css(source) == '[role=group]>a,[value="1.5"]{color:#fed;fill:#abcdef;top:calc(1px + 2px)}'


@loop_over(
    ("source", "message"),
    [
        ('import x from "./a.js";', "app.js must use the supported imports and exports, got import x"),
        ('import { x } from "d3";', "got import { x }"),
        ("export default 3;", "got export default 3"),
        ('const x = "</SCRIPT>";', "app.js must be valid inside a script element, got '</SCRIPT'"),
        ('const x = "<!--";', "got '<!--'"),
        ("const x = `{{title}}`;", "app.js must not contain a placeholder, got {{title}}"),
        ("const x = `a${1", "an expression of a template literal must end, got 1"),
        ("const x = `a", "a template literal must end, got `a"),
        ("const x = 'a\\", "a string or regular expression must end on its line, got 'a\\"),
        ('import { x } from "./b.js";', "app.js must import what ./b.js exports, got x"),
        ('import { x } from "./app.js";', "import each other: app.js → app.js"),
    ],
)
def test_unsupported_modules_raise_an_error(web_build: Any, tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        web_build.bundle(modules(tmp_path, app=f"{source}\n", b="export const y = 1;\n") / "app.js")
