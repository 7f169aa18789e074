#!/bin/sh
# Creates a virtual environment, installs mosaic-gateway into it, and runs `mosaic-gateway install` with the given
# arguments; `sh install.sh upgrade …` runs `mosaic-gateway upgrade` instead.
#
# In an archive created by make-bundle.sh it installs the wheels of that archive and needs no network. An archive is
# refused unless install.sh and wheels/ are exactly what SHA256SUMS lists.
#
#   MOSAIC_GATEWAY_VENV     directory of the virtual environment (default: ~/.local/lib/mosaic-gateway, for root
#                           /opt/mosaic-gateway)
#   MOSAIC_GATEWAY_PACKAGE  what to install: a wheel, an sdist, a directory or a requirement (default: the archive
#                           or checkout that contains this script, else the latest version on the package index)
#   PYTHON                  the interpreter (default: the first of python3, python3.13, python3.12, python3.11 that
#                           is Python 3.11 or later)
set -eu

fail() {
  echo "install.sh: $1" >&2
  exit 3
}

# Prints the file name $1, with bytes other than the usual ones replaced, and the fault $2.
say() {
  printf '  %s %s\n' "$(printf %s "$1" | tr -c 'A-Za-z0-9._+!/ -' '?')" "$2"
}

# Prints a line for each difference between SHA256SUMS and the files that it covers: install.sh and wheels/.
# The sums are compared as text, because `sha256sum -c` accepts unlisted files, lines that it cannot parse, and names
# outside of the archive.
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
        *[!A-Za-z0-9._+!/-]*) say "$file" "does not have the name of a wheel" ;;
        *) set -- "$@" "$file" ;;
      esac
    fi
  done
  if command -v sha256sum >/dev/null; then sum=sha256sum; else sum='shasum -a 256'; fi
  computed=$($sum "$@" </dev/null) || say "the archive" "has files that cannot be read"
  [ ! -f SHA256SUMS ] || listed=$(cat SHA256SUMS)
  while IFS= read -r line; do
    case $newline$listed$newline in
      *"$newline$line$newline"* | *"  ${line#*  }$newline"*) ;;
      *) say "${line#*  }" "is not listed in SHA256SUMS" ;;
    esac
  done <<EOT
$computed
EOT
  while IFS= read -r line; do
    case $newline$computed$newline in
      *"$newline$line$newline"*) ;;
      *"  ${line#*  }$newline"*) say "${line#*  }" "differs from SHA256SUMS" ;;
      *) say "${line#*  }" "is listed in SHA256SUMS but is not in the archive" ;;
    esac
  done <<EOT
$listed
EOT
)

for word; do
  case $word in
    -h | --help)
      sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p;}' "$0"
      echo "The options are those of mosaic-gateway install and mosaic-gateway upgrade: docs/reference/verbs.md."
      exit 0
      ;;
  esac
done

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
# -P: import no modules from the current directory, which other users may be able to write.
"$python" -P -c 'import ensurepip, venv' 2>/dev/null ||
  fail "$python cannot create virtual environments. On Debian and Ubuntu: apt-get install python3-venv"

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
  faults=$(differences)
  [ -z "$faults" ] || fail "the archive is damaged or was changed:
$faults"
elif [ -f "$checkout/installer/install.sh" ] && [ -f "$checkout/pyproject.toml" ]; then
  package=$checkout
else
  package=mosaic-gateway
fi

# $venv.begun exists while an environment of this script is incomplete: from before its creation, or from before pip
# changes it, until pip has succeeded. If a run was killed in between, the environment is created again with --clear.
# An environment that this script did not create is never cleared.
unfinished=$venv.begun
own=$venv/.created-by-install.sh
if [ -e "$unfinished" ] || ! "$venv/bin/python" -P -c '' 2>/dev/null >&2; then
  clear=
  [ ! -e "$unfinished" ] || clear=--clear
  mkdir -p "$(dirname -- "$venv")"
  : >"$unfinished"
  "$python" -P -m venv ${clear:+"$clear"} "$venv"
  : >"$own"
elif ! "$venv/bin/python" -P -m pip --version >/dev/null 2>&1; then
  "$venv/bin/python" -P -m ensurepip >/dev/null 2>&1 || fail "$venv is incomplete: delete it, then run this again"
fi
complete=yes
[ ! -e "$unfinished" ] || complete=
[ ! -e "$own" ] || : >"$unfinished"

# Ends with the message $1 after a failure of pip, which leaves an environment as complete as it was.
pip_failed() {
  [ -z "$complete" ] || rm -f "$unfinished"
  fail "$1"
}

if [ -n "$offline" ]; then
  # Name the wheel, so that pip installs the version of the archive.
  package=$(ls "$offline"/mosaic_gateway-*.whl)
  "$venv/bin/python" -P -m pip install --quiet --disable-pip-version-check --no-index --find-links "$offline" \
    --upgrade "$package" || pip_failed "the archive has no wheels for $("$venv/bin/python" -V) on this machine"
else
  "$venv/bin/python" -P -m pip install --quiet --disable-pip-version-check --upgrade "$package" ||
    pip_failed "pip could not install $package; run this again to continue"
fi
rm -f "$unfinished"
exec "$venv/bin/mosaic-gateway" "$verb" "$@"
