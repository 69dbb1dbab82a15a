#!/bin/sh
# Installs what the tests and benchmarks run against: Debian's redis-server, nginx, haproxy, curl, openssl and wrk, and grpcio
# in a Python environment of its own. Does nothing for what is there already. No service is started.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
PATH=$PATH:/usr/sbin:/sbin
export PATH

missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need redis-server redis-server
need nginx nginx
need haproxy haproxy
need curl curl
need openssl openssl
need wrk wrk
need python3 python3
# What crates with C code need to build.
need cc build-essential
need cmake cmake
python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing="$missing python3-venv"

if [ -n "$missing" ]; then
    echo "== installing:$missing"
    sudo=""
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null 2>&1 || { echo "need root, or sudo, to install:$missing" >&2; exit 1; }
        sudo=sudo
    fi
    # Packages start their services when they are installed, unless a policy says no: the tests start their own.
    policy=/usr/sbin/policy-rc.d
    made=""
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
        $sudo chmod 755 "$policy"
        made=yes
    fi
    restore() { if [ -n "$made" ]; then $sudo rm -f "$policy"; fi; }
    trap restore EXIT INT TERM
    $sudo apt-get update -qq
    # shellcheck disable=SC2086 # a list of packages
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing
    restore
    trap - EXIT INT TERM
fi

venv=$target/test-venv
if ! "$venv/bin/python" -c 'import grpc' >/dev/null 2>&1; then
    echo "== grpcio into $venv"
    mkdir -p "$target"
    python3 -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check grpcio
fi
