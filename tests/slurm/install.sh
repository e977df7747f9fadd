#!/usr/bin/env bash
# Install Debian's SLURM (13 MB) where it is missing, without letting the packages start any service. Needs root.
set -euo pipefail
declare -A packages=([slurmctld]=slurmctld [slurmd]=slurmd [sbatch]=slurm-client [munged]=munge)
missing=()
for program in "${!packages[@]}"; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$program" > /dev/null || missing+=("${packages[$program]}")
done
[ "${#missing[@]}" -gt 0 ] || exit 0
[ "$(id -u)" = 0 ] || { echo "installing ${missing[*]} needs root" >&2; exit 1; }
command -v apt-get > /dev/null || { echo "install SLURM and munge: this machine has no apt-get" >&2; exit 1; }
echo "Installing ${missing[*]} (about 4 MB to download)"
if [ ! -e /usr/sbin/policy-rc.d ]; then # exit 101: start no service
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update || echo "package lists could not be updated: trying with those at hand" >&2
apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${missing[@]}" > /dev/null
