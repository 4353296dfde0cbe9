# The steps of CI. `.ci/run` installs what they need and calls each; `just NAME` runs one; `just` lists them.

set shell := ["bash", "-euo", "pipefail", "-c"]
set positional-arguments

root := justfile_directory()
python := root / ".venv/bin/python"
tools := root / ".venv-tools/bin"
export PATH := tools + ":" + env("PATH") + ":" + env("HOME") + "/.cargo/bin:/usr/sbin:/sbin"

# The lowest share of lines that the tests must run, in per cent.
rust_floor := "94"
python_floor := "90"

[private]
default:
    @just --list --unsorted

# The checks of a minute: before each commit
quick: rust-format clippy ruff imports mypy fragments
    {{ python }} -m pytest -q -m "not slow"

# The environment for work: everything in .venv, the package editable, and the tools in .venv-tools
environment: tools
    test -x {{ python }} || python3 -m venv .venv
    .venv/bin/pip install --quiet -e '.[dev]'

# The programs of .ci/tools.txt in .venv-tools
tools:
    test -x {{ tools }}/python || python3 -m venv .venv-tools
    {{ tools }}/python -m pip install --quiet --disable-pip-version-check -r .ci/tools.txt

# What checks Python
[private]
lint-tools:
    #!/usr/bin/env bash
    set -euo pipefail
    # The extra without the package itself, so that an editable install stays one.
    {{ python }} -c 'import tomllib
    extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]
    print(*(line for line in extras["lint"] if not line.startswith("ehlo[")), sep="\n")' >target/lint-tools.txt
    .venv/bin/pip install --quiet --disable-pip-version-check -r target/lint-tools.txt

# What builds the site
[private]
docs-tools:
    #!/usr/bin/env bash
    set -euo pipefail
    {{ python }} -c 'import tomllib
    extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]
    print(*(line for line in extras["docs"] if not line.startswith("ehlo[")), sep="\n")' >target/docs-tools.txt
    .venv/bin/pip install --quiet --disable-pip-version-check -r target/docs-tools.txt

# The form of the Rust code
[group('rust')]
rust-format:
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
    cargo fmt --all --check
    cargo fmt --manifest-path rust/fuzz/Cargo.toml --check

# Lints of the Rust code
[group('rust')]
clippy:
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
    cargo clippy --workspace --all-targets --locked --quiet -- -D warnings

# The documentation of the crate, without a warning; the doc comments of the binding are Python's, not rustdoc's
[group('rust')]
rust-docs:
    RUSTDOCFLAGS='-D warnings' cargo doc --quiet --locked --no-deps --package ehlo

# The crate as crates.io would get it: packed, unpacked and built
[group('rust')]
crate:
    cargo publish --dry-run --quiet --locked --allow-dirty --package ehlo

# Licences, versions and sources of the crates; advisories are checked by the workflow
[group('rust')]
deny: tools
    cargo deny check --allow license-exception-not-encountered licenses bans sources
    cargo deny --manifest-path rust/fuzz/Cargo.toml --config deny.toml check \
        --allow license-not-encountered licenses bans sources

# Build with the oldest Rust that Cargo.toml promises
[group('rust')]
minimum-rust:
    #!/usr/bin/env bash
    set -euo pipefail
    version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    if ! rustup run "$version" rustc --version; then
        if ! timeout 300 rustup toolchain install "$version" --profile minimal; then
            echo "skipped: Rust $version could not be installed; the workflow builds with it"
            exit 0
        fi
    fi
    cargo "+$version" check --quiet --locked --workspace --target-dir target/minimum-rust

# The README's line that a newcomer copies, to the letter
[group('tests')]
tests:
    #!/usr/bin/env bash
    set -euo pipefail
    line=$(sed -n '/<!-- the tests -->/,/<!-- end -->/{/^[^<`]/p}' README.md)
    printf '%s\n' "$line"
    rm -rf .pytest_cache
    bash -euo pipefail -c "$line" || just once-more

# One to three tests that failed run once more, each alone and after the others. A test that passes now has a fault, too:
# it depends on chance. But the change at hand did not fail it for certain
[private]
once-more:
    #!/usr/bin/env bash
    set -euo pipefail
    # No list: the error was not a failed test.
    failed=$({{ python }} -c 'import json; print(*json.load(open(".pytest_cache/v/cache/lastfailed")), sep="\n")')
    [ "$(wc -l <<<"$failed")" -le 3 ]
    printf '\n-- failed once, and run once more: report each of these as a fault\n%s\n' "$failed"
    {{ python }} -m pytest -q -r fE -n0 --last-failed --last-failed-no-failures none

# The adapters on a newer Python: eager tasks (3.12) and asyncio's newer transports are seen nowhere else
[group('tests')]
newer-python:
    #!/usr/bin/env bash
    set -euo pipefail
    for python in python3.14 python3.13 python3.12 "$HOME"/.pyenv/versions/3.1{4,3,2}.*/bin/python; do
        if "$python" -c 'import ensurepip' 2>/dev/null; then
            "$python" --version
            "$python" -m venv --clear .venv-newer
            .venv-newer/bin/pip install --quiet '.[test]'
            exec .venv-newer/bin/python -m pytest -q -r fE tests/adapters
        fi
    done
    echo 'skipped: no Python newer than 3.11 is here'

# Lines of Rust that its tests run; fails below the floor
[group('tests')]
rust-coverage: tools
    #!/usr/bin/env bash
    set -euo pipefail
    if ! rustup component add llvm-tools >/dev/null; then
        echo 'skipped: the component llvm-tools could not be installed; the workflow has it'
        exit 0
    fi
    # Without debug information it builds in less time.
    CARGO_PROFILE_TEST_DEBUG=line-tables-only cargo llvm-cov --quiet --locked --package ehlo \
        --ignore-filename-regex '/tests/' --fail-under-lines {{ rust_floor }} --summary-only >target/rust-coverage.txt ||
        { cat target/rust-coverage.txt; exit 1; }
    awk '/^TOTAL/ { print "lines of rust/ehlo that tests run: " $10 }' target/rust-coverage.txt

# Lines of Python that the quick tests run; fails below the floor
[group('tests')]
python-coverage: lint-tools
    #!/usr/bin/env bash
    set -euo pipefail
    .venv/bin/coverage erase
    rm -rf .pytest_cache
    .venv/bin/coverage run -m pytest -q -r fE -m "not slow" || just once-more
    .venv/bin/coverage combine --quiet
    .venv/bin/coverage report --skip-covered --fail-under={{ python_floor }}

# The tests of smtplib, aiosmtplib, Django, aiosmtpd and its users against the shapes of ehlo.compat and ehlo.contrib
[group('tests')]
suites:
    for name in smtplib aiosmtplib aiosmtplib-server django django-server django-both aiosmtpd smtpdfix pytest-localserver mailrise; do {{ python }} tests/suites/run.py "$name"; done

# Lints and form of the Python code
[group('python')]
ruff: lint-tools
    .venv/bin/ruff check
    .venv/bin/ruff format --check

# The floors of the Python package: which room may import which
[group('python')]
imports: lint-tools
    .venv/bin/lint-imports

# Types of the package and of the tests
[group('python')]
mypy: lint-tools
    .venv/bin/mypy

# The stub of the extension is the one that tools/make_stub.py writes
[group('python')]
stub:
    {{ python }} tools/make_stub.py --check

# The stub of the extension against the extension
[group('python')]
stubtest: lint-tools
    {{ python }} -m mypy.stubtest ehlo._core

# Types that users see: every public name has one
[group('python')]
public-types: lint-tools
    # pyright asks the `python` of PATH where the packages are.
    PATH="$PWD/.venv/bin:$PATH" basedpyright --verifytypes ehlo --ignoreexternal

# The site, in target/site: every page, link and anchor is checked, and a warning is an error. Of links to elsewhere only
# the form is checked, so the build needs no network
[group('release')]
site: docs-tools
    # The theme's advertisement for its successor would be a warning.
    NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict
    if command -v node >/dev/null; then node tools/site/search.js target/site; else echo 'without node the search is not tested'; fi

# The sdist: complete, and what it builds can be imported
[group('release')]
sdist: tools
    #!/usr/bin/env bash
    set -euo pipefail
    rm -rf target/sdist
    maturin sdist --out target/sdist
    python3 -m venv --clear target/sdist/venv
    # Not the release profile: this is about the files, and a debug build takes a quarter of the time.
    CARGO_TARGET_DIR="$PWD/target" target/sdist/venv/bin/pip install --quiet \
        --config-settings=build-args='--profile dev' target/sdist/*.tar.gz
    cd target/sdist
    PYTHONWARNINGS=ignore venv/bin/python -c 'import ehlo, ehlo.asyncio; print("built from the sdist:", ehlo.__file__)'
    PYTHONWARNINGS=ignore venv/bin/ehlo --version

# The changelog as the next release would have it; fails when the name of a fragment has no kind
[group('release')]
fragments: tools
    towncrier build --draft --version next

# The workflows: their schema, and what is known to be dangerous in them
[group('release')]
workflows: tools
    #!/usr/bin/env bash
    set -euo pipefail
    check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
    check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
    zizmor --offline --quiet --persona regular .github
    if command -v actionlint >/dev/null; then
        actionlint
    elif command -v go >/dev/null; then
        go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
    else
        echo 'actionlint is skipped: neither it nor Go is here'
    fi

# The benchmarks, each once and without timing: do they work?
[group('slow')]
benches: lint-tools
    {{ python }} -m pytest -q -p no:cacheprovider benches --benchmark-disable

# Instructions of the engines for one message, against benches/instructions.json
[group('slow')]
instructions:
    {{ python }} benches/instructions.py --check

# Each fuzz target for some seconds
[group('slow')]
fuzz seconds="5":
    #!/usr/bin/env bash
    set -euo pipefail
    if ! command -v c++ >/dev/null; then
        echo 'skipped: libFuzzer needs a C++ compiler'
        exit 0
    fi
    # The flags of cargo-fuzz, without the address sanitizer, which needs a nightly compiler.
    host=$(rustc -vV | sed -n 's/^host: //p')
    export RUSTFLAGS='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
        -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1'
    cargo build --quiet --release --target "$host" --manifest-path rust/fuzz/Cargo.toml --target-dir rust/fuzz/target
    for seeds in rust/fuzz/seeds/*/; do
        target=$(basename "$seeds")
        echo "$target"
        # New inputs go to a directory of this run; the seeds in git stay as they are.
        run=$(mktemp -d)
        if ! "rust/fuzz/target/$host/release/$target" -max_total_time={{ seconds }} -print_final_stats=1 \
            -artifact_prefix="$run/" "$run" "$seeds" >"$run.log" 2>&1; then
            tail -n 40 "$run.log"
            echo "$target failed; its input is in $run"
            exit 1
        fi
        grep number_of_executed_units "$run.log"
        rm -r "$run" "$run.log"
    done
