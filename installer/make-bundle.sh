#!/bin/sh
# Creates an archive from which mosaic-gateway can be installed and upgraded without a network:
#
#   mosaic-gateway-<version>-<system>-<machine>.tar.gz
#     install.sh    the same as in a checkout; it uses the wheels next to it
#     wheels/       this package and all of its dependencies, for this system and machine
#     SHA256SUMS    the checksums of both; install.sh refuses an archive that differs from it
#
#   sh make-bundle.sh [DIRECTORY]    the output directory (default: the current directory)
#
#   PYTHON    the interpreter that builds and downloads (default: the first of python3, python3.13, python3.12,
#             python3.11 that is Python 3.11 or later)
#   PYTHONS   the Python versions that the archive supports (default: 3.11 3.12 3.13); versions for which the index
#             lacks a wheel are skipped with a message
set -eu

fail() {
  echo "make-bundle.sh: $1" >&2
  exit 3
}

output=$(CDPATH='' cd -- "${1:-.}" && pwd)
checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
[ -f "$checkout/pyproject.toml" ] || fail "$checkout is not a checkout of mosaic-gateway"

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

# Build the wheel from an sdist: a wheel built from the tree would hide files that are missing from the sdist.
$pip install 'build>=1.2'
"$work/venv/bin/python" -m build --outdir "$work/dist" "$checkout" >&2
wheel=$(ls "$work"/dist/mosaic_gateway-*.whl)
version=$(basename "$wheel" | cut -d- -f2)
name=mosaic-gateway-$version-$(uname -s | tr '[:upper:]' '[:lower:]')-$(uname -m)
mkdir "$work/$name" "$work/$name/wheels"
cp "$wheel" "$work/$name/wheels/"
cp "$checkout/installer/install.sh" "$work/$name/"

supported=
for candidate in ${PYTHONS:-3.11 3.12 3.13}; do
  mkdir "$work/$candidate"
  if $pip download --only-binary=:all: --python-version "$candidate" --dest "$work/$candidate" "$wheel"; then
    cp "$work/$candidate"/*.whl "$work/$name/wheels/"
    supported="$supported $candidate"
  else
    echo "make-bundle.sh: skipping Python $candidate: the index lacks a wheel for it" >&2
  fi
done
[ -n "$supported" ] || fail "the wheels could not be downloaded for any of the Python versions"

(cd "$work/$name" && find install.sh wheels -type f | LC_ALL=C sort | xargs $sum >SHA256SUMS)
# Fixed times and owners, so that the same wheels give the same archive.
(cd "$work" && LC_ALL=C find "$name" | sort | tar --create --no-recursion --files-from - --file "$name.tar" \
  --format ustar --owner 0 --group 0 --numeric-owner --mtime '2020-01-01 00:00Z' 2>/dev/null ||
  tar -cf "$name.tar" "$name")
gzip -n "$work/$name.tar"
mv "$work/$name.tar.gz" "$output/"
echo "For Python$supported:" >&2
echo "$output/$name.tar.gz"
