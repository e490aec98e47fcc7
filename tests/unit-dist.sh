#!/bin/bash
# What is handed out is small, and the same wherever it is built.
set -eu
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

for place in a b/c; do
	mkdir -p "$dir/$place"
	# shellcheck disable=SC2046 # a list
	cp --parents $(make -s files) "$dir/$place"
	out=$(env -u ARCH make -s -C "$dir/$place" CC=musl-gcc strip 2>&1) && ! grep -i warning <<<"$out" ||
		{ echo "FAIL - unit: builds with musl: $out"; exit 1; }
done
if cmp "$dir/a/ublk" "$dir/b/c/ublk"; then echo "ok - unit: two builds in two places are the same"
else echo "FAIL - unit: two builds in two places are the same"; fi
size=$(stat -c %s "$dir/a/ublk")
if [ "$size" -le $((112 * 1024)) ]; then echo "ok - unit: with musl it has $size bytes"
else echo "FAIL - unit: with musl it has $size bytes, more than 112 KiB"; fi

# the sources: as they are handed out, they build
for place in src src2; do
	mkdir "$dir/$place"
	git ls-files -z 2>/dev/null | xargs -0r cp --parents -t "$dir/$place"
	[ -e "$dir/$place/Makefile" ] || cp -r . "$dir/$place"
done
# a stranger's umask, directories and leavings
chmod -R go-rwx,g+s "$dir/src2" && touch "$dir/src2/share/.ublk.8.swp"
for place in src src2; do (umask 077 && TAR_OPTIONS=--format=posix make -s -C "$dir/$place" dist-source); done
if cmp "$dir"/src*/build/dist/ublk-*.tar.gz; then echo "ok - unit: two archives of the sources are the same"
else echo "FAIL - unit: two archives of the sources are the same"; fi
name="unit: what the archive has builds, and is its version"
tar -C "$dir" -xzf "$dir"/src/build/dist/ublk-*.tar.gz
if out=$(make -s -C "$dir"/ublk-*/ CFLAGS=-O0 2>&1) && [ "$("$dir"/ublk-*/ublk --version)" = "$(basename "$dir"/ublk-*/ | tr - ' ')" ]; then echo "ok - $name"
else echo "FAIL - $name: $out"; fi
