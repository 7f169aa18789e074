#!/bin/sh
# Makes one archive from which mosaic-gateway can be installed and upgraded without a network:
#
#   mosaic-gateway-<version>-<system>-<machine>.tar.gz
#     install.sh    the same as in a checkout; it finds the wheels beside it
#     wheels/       this package and all that it needs, for this system and machine
#     SHA256SUMS    lists both; install.sh refuses an archive that differs from it
#
#   sh make-bundle.sh [DIRECTORY]    where the archive goes (default: the present directory)
#
#   PYTHON    the interpreter that builds and downloads (default: the first of python3, python3.13, python3.12,
#             python3.11 that is new enough)
#   PYTHONS   the versions that the archive is for (default: 3.11 3.12 3.13); those for which the index has not all
#             wheels are left out, and told
set -eu

fail() {
  echo "make-bundle.sh: $1" >&2
  exit 3
}

output=$(CDPATH='' cd -- "${1:-.}" && pwd)
checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
[ -f "$checkout/pyproject.toml" ] || fail "$checkout is no checkout of mosaic-gateway"

python=
for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
[ -n "$python" ] || fail "no Python 3.11 or later found"
if command -v sha256sum >/dev/null; then
  sum=sha256sum
else
  sum='shasum -a 256'
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM
"$python" -m venv "$work/venv"
pip="$work/venv/bin/python -m pip --quiet --disable-pip-version-check"

# Through an sdist: a wheel that is built from the tree would hide what is missing from it.
$pip install 'build>=1.2'
"$work/venv/bin/python" -m build --outdir "$work/dist" "$checkout" >&2
wheel=$(ls "$work"/dist/mosaic_gateway-*.whl)
version=$(basename "$wheel" | cut -d- -f2)
name=mosaic-gateway-$version-$(uname -s | tr '[:upper:]' '[:lower:]')-$(uname -m)
mkdir "$work/$name" "$work/$name/wheels"
cp "$wheel" "$work/$name/wheels/"
cp "$checkout/installer/install.sh" "$work/$name/"

got=
for wanted in ${PYTHONS:-3.11 3.12 3.13}; do
  mkdir "$work/$wanted"
  if $pip download --only-binary=:all: --python-version "$wanted" --dest "$work/$wanted" "$wheel"; then
    cp "$work/$wanted"/*.whl "$work/$name/wheels/"
    got="$got $wanted"
  else
    echo "make-bundle.sh: not for Python $wanted: the index has not every wheel for it" >&2
  fi
done
[ -n "$got" ] || fail "the wheels for none of the versions could be downloaded"

(cd "$work/$name" && find install.sh wheels -type f | LC_ALL=C sort | xargs $sum >SHA256SUMS)
# Without times and owners: the same wheels give the same archive.
(cd "$work" && LC_ALL=C find "$name" | sort | tar --create --no-recursion --files-from - --file "$name.tar" \
  --format ustar --owner 0 --group 0 --numeric-owner --mtime '2020-01-01 00:00Z' 2>/dev/null ||
  tar -cf "$name.tar" "$name")
gzip -n "$work/$name.tar"
mv "$work/$name.tar.gz" "$output/"
echo "For Python$got:" >&2
echo "$output/$name.tar.gz"
