#!/usr/bin/env bash
# Installs what cargo and go do not bring: a C compiler, Postgres' programs, curl, Python
# (for an example), setpriv, and the programs named as arguments (those that have a package
# of their name). Does nothing when all are there; off Debian it says what to install.
set -euo pipefail

missing=()
need() { # COMMAND PACKAGE...
	command -v "$1" >/dev/null || missing+=("${@:2}")
}
need cc gcc libc6-dev
need curl curl
need python3 python3
need setpriv util-linux
for program in "$@"; do
	need "$program" "$program"
done
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || need initdb postgresql

if [ ${#missing[@]} -eq 0 ]; then
	exit 0
fi
if ! command -v apt-get >/dev/null; then
	echo "testbed: please install these first (named as Debian names them): ${missing[*]}" >&2
	exit 1
fi

root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		echo "testbed: please run as root, for want of sudo: apt-get install ${missing[*]}" >&2
		exit 1
	fi
}
install() {
	root env DEBIAN_FRONTEND=noninteractive \
		apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@" >&2
}

echo "testbed: installing ${missing[*]} ..." >&2
root apt-get -qq update >&2
if [[ " ${missing[*]} " == *" postgresql "* ]]; then
	# Debian's package would make a cluster and start it, now and at each boot. We only
	# want the programs, so for the length of the installation we switch that off.
	install postgresql-common
	setting=/etc/postgresql-common/createcluster.conf
	root cp -p "$setting" "$setting.before-testbed"
	restore() { root mv "$setting.before-testbed" "$setting"; }
	trap restore EXIT
	echo 'create_main_cluster = false' | root tee -a "$setting" >/dev/null
fi
install "${missing[@]}"
