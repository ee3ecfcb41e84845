#!/usr/bin/env bash
# build.sh RECIPE OUT.tar: an image recipe of this folder as one plain tar of its root filesystem.
#
# By `docker build` where a daemon answers and the base image can be had; else by debootstrap, which needs root and
# the same packages from a Debian mirror ($DEBIAN_MIRROR) and wheels by $PYTHON's pip. Both read the same files:
# RECIPE/packages, RECIPE/requirements.txt, RECIPE/setup.sh.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
recipe=$here/${1:?which recipe: a folder beside this script}
out=${2:?where to write the tar}
suite=bookworm
python=${PYTHON:-python3}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

fail() { echo "build.sh: $*" >&2; exit 1; }
[ -f "$recipe/Dockerfile" ] || fail "$recipe holds no Dockerfile"

work=$(mktemp -d "${TMPDIR:-/tmp}/swe-srl-image-XXXXXX")
trap 'rm -rf --one-file-system "$work" "$out.tmp"' EXIT
mkdir -p "$(dirname "$out")"

by_docker() {
    local tag container
    tag=swe-srl-build:$$
    docker build --quiet --tag "$tag" "$recipe" >"$work/log" 2>&1 || return 1
    container=$(docker create "$tag")
    docker export "$container" >"$out.tmp"
    docker rm "$container" >/dev/null
    docker rmi "$tag" >/dev/null
}

by_debootstrap() {
    local packages
    packages=$(paste -sd, "$recipe/packages")
    debootstrap --variant=minbase --include="$packages" "$suite" "$work/root" "$mirror" >"$work/log" 2>&1 \
        || { tail -5 "$work/log" >&2; fail "debootstrap failed; \$DEBIAN_MIRROR is $mirror"; }
    cp "$recipe/setup.sh" "$recipe/requirements.txt" "$work/root/tmp/"
    # Fetched outside, where the registry and its certificates are set up.
    "$python" -m pip download --quiet --disable-pip-version-check --dest "$work/root/tmp/wheels" \
        --only-binary :all: --python-version 3.11 -r "$recipe/requirements.txt" \
        || fail "cannot fetch $recipe/requirements.txt"
    chroot "$work/root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh /tmp/setup.sh
    tar --directory "$work/root" --numeric-owner --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' \
        --create --file "$out.tmp" .
}

if command -v docker >/dev/null && docker info >/dev/null 2>&1 && by_docker; then
    :
elif ! command -v debootstrap >/dev/null; then
    fail "needs docker with a registry that answers, or debootstrap (apt-get install debootstrap)"
elif [ "$(id -u)" != 0 ]; then
    fail "no docker that can build it, and debootstrap needs root: sudo $0 $1 $out"
else
    by_debootstrap
fi
mv "$out.tmp" "$out"
