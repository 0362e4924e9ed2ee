#!/usr/bin/env bash
# Make .venv from poetry.lock, needing only python3 (3.11 to 3.13) and git. Run as: make setup
#
# Poetry itself lives in .poetry/, away from the project and from the user's own. Nothing is done when .venv already
# matches poetry.lock and pyproject.toml; after an interruption the next run goes on where this one stopped.
#
#   INSTALL_OPTIONS="--only main"   leaves out what trains and tests: no torch, a tenth of the disk
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '[setup] %s\n' "$*"; }
fail() {
  printf '[setup] error: %s\n' "$*" >&2
  exit 1
}
supported() { "$@" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }

# --- Already done? ---------------------------------------------------------------------------------------------------
stamp=.venv/.installed
wanted="$(cat poetry.lock pyproject.toml | cksum)${INSTALL_OPTIONS:+ $INSTALL_OPTIONS} in $PWD" # .venv names its folder
version_of() { "$1" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null || true; }
usable() { # a Python that is supported, and of the version asked for, where one is
  supported "$1" && { [ -z "${PYTHON:-}" ] || [ "$(version_of "$PYTHON")" = "$(version_of "$1")" ]; }
}
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && usable .venv/bin/python; then
  exit 0
fi

# --- What the machine must have --------------------------------------------------------------------------------------
python=
candidates=(python3 python3.13 python3.12 python3.11)
if [ -n "${PYTHON:-}" ]; then
  candidates=("$PYTHON")
fi
for candidate in "${candidates[@]}"; do
  if supported "$candidate"; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  found=$("${candidates[0]}" --version 2>/dev/null) || found="no ${candidates[0]}"
  fail "Python 3.11, 3.12 or 3.13 is needed, found: $found. Install one, or name it: PYTHON=/path/to/python make setup"
fi
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  fail "$("$python" --version) cannot make virtual environments: its venv module is missing. On Debian or Ubuntu: apt-get install python3-venv"
command -v git >/dev/null || fail "git is missing, and the tests ask it for the tracked files. Install git."

# --- Poetry, in its own environment ----------------------------------------------------------------------------------
poetry=.poetry/bin/poetry
pip() { .poetry/bin/python -m pip --disable-pip-version-check "$@"; }
if ! [ -f .poetry/.complete ] || ! "$poetry" --version >/dev/null 2>&1; then
  say "installing Poetry into .poetry/ with $("$python" --version)"
  "$python" -m venv --clear .poetry
  pip install --quiet 'poetry>=2.1,<3' 'poetry-plugin-pypi-mirror>=0.6,<0.7' ||
    fail "pip could not install Poetry: see its message above."
  touch .poetry/.complete
fi

# Poetry asks for packages through an interface that some networks and mirrors do not serve; the simple index, which pip
# uses, is served everywhere. So it is given pip's own index, and pip's certificates.
pip_setting() { pip config get "global.$1" 2>/dev/null || pip config get "install.$1" 2>/dev/null || true; }
index=${POETRY_PYPI_MIRROR_URL:-${PIP_INDEX_URL:-$(pip_setting index-url)}}
if [ -z "$index" ]; then
  index=$(.poetry/bin/python -c 'from pip._internal.models.index import PyPI; print(PyPI.simple_url)')
fi
export POETRY_PYPI_MIRROR_URL=${index%/}/
certificates=${REQUESTS_CA_BUNDLE:-${PIP_CERT:-$(pip_setting cert)}}
if [ -n "$certificates" ]; then
  export REQUESTS_CA_BUNDLE=$certificates
fi
# Always the project's own .venv, whatever the user has activated or configured; and never a password prompt.
unset VIRTUAL_ENV CONDA_PREFIX CONDA_DEFAULT_ENV PYTHONHOME PYTHONPATH
export POETRY_VIRTUALENVS_CREATE=true POETRY_VIRTUALENVS_IN_PROJECT=true
export PYTHON_KEYRING_BACKEND=keyring.backends.null.Keyring

# --- The project's environment ---------------------------------------------------------------------------------------
rm -f "$stamp" # until all of it is there
if ! usable .venv/bin/python; then
  say "making .venv with $("$python" --version)"
  "$python" -m venv --clear .venv
fi
# RECORD is the last file of a package to be written: a package without one was interrupted half-way. Forget it, and
# Poetry installs it again.
for package in .venv/lib/python3*/site-packages/*.dist-info; do
  if [ -d "$package" ] && ! [ -s "$package/RECORD" ]; then
    say "installing ${package##*/} again: an earlier run was interrupted"
    rm -r "$package"
  fi
done
say "installing from poetry.lock into .venv (the first time minutes; with all that trains some 5 GB)"
# shellcheck disable=SC2086  # options are a list
"$poetry" install --no-interaction ${INSTALL_OPTIONS:-} || fail "Poetry stopped: see its message above. 'make setup' goes on from here."
printf '%s\n' "$wanted" >"$stamp"
say "done: commands run as '.venv/bin/python -m ...' or 'poetry run python -m ...'"
