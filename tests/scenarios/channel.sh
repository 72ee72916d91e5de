#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The module against an agent, a metadata server and targets that live in the test program: attaching,
# completions that lie, a killed agent, failing targets, killed calls. There is no cluster.
# vm: --bare --module build/kmod/weft.ko
set -u
exec "$(dirname "$0")/../../build/tests/channel_test"
