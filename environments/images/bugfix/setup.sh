#!/bin/sh
# What is done inside the image after its packages are installed, by `docker build` and by debootstrap alike.
set -eu

# Wheels that were brought along, where what builds the image cannot let it reach a registry.
if [ -d /tmp/wheels ]; then from="--no-index --find-links /tmp/wheels"; else from=; fi
pip install --quiet --root-user-action ignore --break-system-packages --no-cache-dir $from -r /tmp/requirements.txt

useradd --create-home --uid 1000 --shell /bin/bash agent
# What a sandbox mounts something on: the root filesystem is read-only and shared by all of them.
mkdir -p /testbed /.swe-srl
chown agent:agent /testbed

rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/* /tmp/*
