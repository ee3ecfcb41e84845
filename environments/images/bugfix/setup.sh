#!/bin/sh
# What is done inside the image after its packages are installed, by `docker build` and by debootstrap alike.
set -eu

useradd --create-home --uid 1000 --shell /bin/bash agent
# Every folder that a sandbox mounts something on: the root filesystem is read-only and shared by all of them.
mkdir -p /testbed /.swe-srl /proc /sys /dev /tmp
chown agent:agent /testbed

rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/*
