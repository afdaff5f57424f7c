#!/bin/sh
# The image, with podman or docker, whichever works here.
#
#   image.sh engine             say which one it is; status 1 if there is none
#   image.sh build              build $IMAGE from $BASE
#   image.sh run [FLAG...]      run it, read-only and without privileges
#   image.sh base               make a base image from Debian packages, for machines that reach no registry
#
# Environment: CONTAINER_ENGINE, IMAGE, VARIANT (cpu or gpu), BASE, REPOSITORY, PUBLISH (host:port), MIRROR.
set -eu
cd "$(dirname "$0")/.."

OUR_BASE=localhost/makemore-base:bookworm
MIRROR=${MIRROR:-http://deb.debian.org/debian}
VARIANT=${VARIANT:-cpu}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGE=${IMAGE:-localhost/makemore-serving:$version-$VARIANT}

if [ ! -d /run/systemd/system ]; then
    export CONTAINERS_CONF="${CONTAINERS_CONF:-$PWD/serving/deploy/podman-nested.conf}"
fi

find_engine() {
    for name in ${CONTAINER_ENGINE:-podman docker}; do
        if "$name" info >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
    echo "neither podman nor docker works here; on Debian: apt-get install podman runc" >&2
    return 1
}

base() {
    if ! command -v mmdebstrap >/dev/null; then
        echo "a base image is made with mmdebstrap; on Debian: apt-get install mmdebstrap" >&2
        exit 1
    fi
    tar=$(mktemp --suffix=.tar)
    trap 'rm -f "$tar"' EXIT
    # As Debian's slim images do, it leaves out what no server reads. perl comes with usrmerge.
    # shellcheck disable=SC2016  # $1 is for mmdebstrap
    mmdebstrap --variant=minbase --include=python3,python3-venv,ca-certificates,usr-is-merged \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='chroot "$1" apt-get --yes purge usrmerge "^perl$" "^libperl5" "^perl-modules"' \
        bookworm "$tar" "deb $MIRROR bookworm main" "deb $MIRROR-security bookworm-security main"
    "$engine" import "$tar" "$OUR_BASE"
}

build() {
    if [ -z "${BASE:-}" ] && "$engine" image inspect "$OUR_BASE" >/dev/null 2>&1; then
        BASE=$OUR_BASE
    fi
    set -- --build-arg "VARIANT=$VARIANT" --build-arg "VERSION=$version" ${BASE:+--build-arg "BASE=$BASE"}
    if revision=$(git rev-parse HEAD 2>/dev/null); then
        source=$(git config --get remote.origin.url | sed 's|//[^/@]*@|//|') || source=
        set -- "$@" --build-arg "REVISION=$revision" ${source:+--build-arg "SOURCE=$source"}
    fi
    # What pip here has been told of registries; the machine's certificates are at Debian's place.
    certificates=${PIP_CERT:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}
    if [ -f "$certificates" ]; then
        set -- "$@" --secret "id=ca_bundle,src=$certificates"
    fi
    if [ -f "${PIP_CONFIG_FILE:-}" ]; then
        set -- "$@" --secret "id=pip_conf,src=$PIP_CONFIG_FILE"
    fi
    # podman leaves out health checks unless it is told the format; a base that is only here is not pulled.
    if [ "$engine" = podman ]; then
        set -- "$@" --format docker --pull=missing
    fi
    "$engine" build "$@" --network host -f serving/Containerfile -t "$IMAGE" .
    size=$("$engine" image inspect --format '{{.Size}}' "$IMAGE")
    echo "$IMAGE: $((size / 1000000)) MB"
}

run() {
    if [ -n "${REPOSITORY:-}" ]; then
        set -- "$@" --volume "$(realpath "$REPOSITORY"):/models:ro"
    fi
    exec "$engine" run --rm --publish "${PUBLISH:-127.0.0.1:50051}:50051" \
        --read-only --cap-drop ALL --security-opt no-new-privileges --pids-limit 256 "$@" "$IMAGE"
}

engine=$(find_engine)
case ${1:-} in
    engine) echo "$engine" ;;
    build) build ;;
    base) base ;;
    run) shift; run "$@" ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
