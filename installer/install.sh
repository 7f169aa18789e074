#!/bin/sh
# Makes a virtual environment, puts mosaic-gateway into it, and runs `mosaic-gateway install` with the arguments
# given here; `sh install.sh upgrade …` runs `mosaic-gateway upgrade` instead.
#
# Beside the wheels of an archive that make-bundle.sh made, it checks and uses those, and needs no network.
#
#   MOSAIC_GATEWAY_VENV     where the environment goes (default: ~/.local/lib/mosaic-gateway, for root
#                           /opt/mosaic-gateway)
#   MOSAIC_GATEWAY_PACKAGE  what is installed: a wheel, an sdist, a directory or a requirement (default: the
#                           archive or checkout that this script lies in, else the package index's latest)
#   PYTHON                  the interpreter (default: the first of python3, python3.13, python3.12, python3.11 that
#                           is new enough)
set -eu

fail() {
  echo "install.sh: $1" >&2
  exit 3
}

new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

python=
for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
  if new_enough "$candidate"; then
    python=$candidate
    break
  fi
done
[ -n "$python" ] || fail "no Python 3.11 or later found (looked for ${PYTHON:-python3, python3.13, python3.12, python3.11})"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  fail "$python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv"

if [ -n "${MOSAIC_GATEWAY_VENV:-}" ]; then
  venv=$MOSAIC_GATEWAY_VENV
elif [ "$(id -u)" -eq 0 ]; then
  venv=/opt/mosaic-gateway
else
  venv=$HOME/.local/lib/mosaic-gateway
fi
case $venv in
  /*) ;;
  *) venv=$PWD/$venv ;;
esac

verb=install
case ${1:-} in
  install | upgrade)
    verb=$1
    shift
    ;;
esac

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
checkout=$(dirname -- "$here")
offline=
if [ -n "${MOSAIC_GATEWAY_PACKAGE:-}" ]; then
  package=$MOSAIC_GATEWAY_PACKAGE
elif [ -f "$here/SHA256SUMS" ] && [ -d "$here/wheels" ]; then
  package=mosaic-gateway
  offline=$here/wheels
  if command -v sha256sum >/dev/null; then sum=sha256sum; else sum='shasum -a 256'; fi
  (cd "$here" && $sum -c SHA256SUMS >/dev/null) || fail "the archive is damaged: a file is not as SHA256SUMS says"
elif [ -f "$checkout/installer/install.sh" ] && [ -f "$checkout/pyproject.toml" ]; then
  package=$checkout
else
  package=mosaic-gateway
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
if [ -n "$offline" ]; then
  # The version is the archive's own, whatever else may be found.
  package=$(ls "$offline"/mosaic_gateway-*.whl)
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --find-links "$offline" \
    --upgrade "$package" || fail "the archive has no wheels for $("$venv/bin/python" -V) on this machine"
else
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade "$package"
fi
echo "The command is $venv/bin/mosaic-gateway" >&2
exec "$venv/bin/mosaic-gateway" "$verb" "$@"
