#!/bin/sh
# Makes a virtual environment, puts mosaic-gateway into it, and runs `mosaic-gateway install` with the arguments
# given here; `sh install.sh upgrade …` runs `mosaic-gateway upgrade` instead.
#
# Beside the wheels of an archive that make-bundle.sh made, it uses those and needs no network. An archive is refused
# where install.sh and wheels/ are not exactly what SHA256SUMS lists.
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

# Prints the name $1, which may contain any byte, and what is wrong with it.
say() {
  printf '  %s %s\n' "$(printf %s "$1" | tr -c 'A-Za-z0-9._+!/ -' '?')" "$2"
}

# Prints a line for each difference between SHA256SUMS and what is used of the archive: install.sh and wheels/.
# The sums are compared as text, because `sha256sum -c` accepts files that are not listed, lines that it cannot parse
# and names that lead out of the archive.
differences() (
  cd "$here"
  LC_ALL=C
  export LC_ALL
  newline='
'
  listed=
  set --
  for file in SHA256SUMS install.sh wheels wheels/* wheels/.[!.]* wheels/..?*; do
    [ -e "$file" ] || [ -L "$file" ] || continue # a pattern without a match
    if [ -L "$file" ]; then
      say "$file" "is a symbolic link"
    elif [ ! -f "$file" ] && [ "$file" != wheels ]; then
      say "$file" "is not a regular file"
    else
      case $file in
        wheels | SHA256SUMS) ;;
        *[!A-Za-z0-9._+!/-]*) say "$file" "has a name that no wheel has" ;;
        *) set -- "$@" "$file" ;;
      esac
    fi
  done
  if command -v sha256sum >/dev/null; then sum=sha256sum; else sum='shasum -a 256'; fi
  found=$($sum "$@" </dev/null) || say "the archive" "has files that cannot be read"
  [ ! -f SHA256SUMS ] || listed=$(cat SHA256SUMS)
  while IFS= read -r line; do
    case $newline$listed$newline in
      *"$newline$line$newline"* | *"  ${line#*  }$newline"*) ;;
      *) say "${line#*  }" "is not listed in SHA256SUMS" ;;
    esac
  done <<EOT
$found
EOT
  while IFS= read -r line; do
    case $newline$found$newline in
      *"$newline$line$newline"*) ;;
      *"  ${line#*  }$newline"*) say "${line#*  }" "is not as SHA256SUMS lists it" ;;
      *) say "${line#*  }" "is listed in SHA256SUMS and is no file of the archive" ;;
    esac
  done <<EOT
$listed
EOT
)

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
# -P: the present directory, which others may write, gives no modules.
"$python" -P -c 'import ensurepip, venv' 2>/dev/null ||
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
elif [ -e "$here/SHA256SUMS" ] || [ -e "$here/wheels" ]; then
  offline=$here/wheels
  wrong=$(differences)
  [ -z "$wrong" ] || fail "the archive is damaged or was changed:
$wrong"
elif [ -f "$checkout/installer/install.sh" ] && [ -f "$checkout/pyproject.toml" ]; then
  package=$checkout
else
  package=mosaic-gateway
fi

# An environment that was being made when this was killed is made anew; one of yours is never touched.
begun=$venv.begun
if [ -e "$begun" ] || [ ! -x "$venv/bin/python" ]; then
  clear=
  [ ! -e "$begun" ] || clear=--clear
  mkdir -p "$(dirname -- "$venv")"
  : >"$begun"
  "$python" -P -m venv ${clear:+"$clear"} "$venv"
  rm -f "$begun"
fi
if [ -n "$offline" ]; then
  # The version is the archive's own, whatever else may be found.
  package=$(ls "$offline"/mosaic_gateway-*.whl)
  "$venv/bin/python" -P -m pip install --quiet --disable-pip-version-check --no-index --find-links "$offline" \
    --upgrade "$package" || fail "the archive has no wheels for $("$venv/bin/python" -V) on this machine"
else
  "$venv/bin/python" -P -m pip install --quiet --disable-pip-version-check --upgrade "$package"
fi
echo "The command is $venv/bin/mosaic-gateway" >&2
exec "$venv/bin/mosaic-gateway" "$verb" "$@"
