# shellcheck shell=bash
# What the tests take from Debian: packages for this machine, and kernels for
# the virtual one. Sourced by vm.sh. All it fetches is kept in a cache outside
# the tree, which can be removed at any time.

# shellcheck source=tests/arch.sh
. "$VM_TESTS/arch.sh"
VM_SUITES=${VM_SUITES:-bookworm bookworm-backports trixie trixie-backports sid}
VM_CACHE=${UBLK_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ublk-test}
[ "$VM_ARCH" = cloud-amd64 ] || VM_CACHE=$VM_CACHE/$VM_ARCH # a cache for each kind of machine
# A package, and the file or command that shows it is installed
VM_PACKAGES="gcc:gcc libc6-dev:/usr/include/stdio.h make:make busybox-static:busybox cpio:cpio kmod:modprobe
	xz-utils:xz fio:fio e2fsprogs:mkfs.ext4 xfsprogs:mkfs.xfs fdisk:sfdisk mount:losetup
	util-linux:blkdiscard strace:strace dash:dash diffutils:cmp musl-tools:musl-gcc dmsetup:dmsetup btrfs-progs:mkfs.btrfs jq:jq mdadm:mdadm udev:udevadm mandoc:mandoc"
# The same, of what only some cases need
VM_PACKAGES_SOME="stress-ng:stress-ng fsmark:fs_mark dbench:dbench"

vm_note() { echo "test: $*" >&2; }
vm_die() { vm_note "$*"; return 1; }
vm_has() { case $1 in /*) [ -e "$1" ] ;; *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;; esac; }

# vm_mirror: "URI SUITE COMPONENT" of each package list the machine's own apt
# is set up for, whichever way its sources are written
vm_mirror() {
	# shellcheck disable=SC2016 # for apt to expand
	apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
		sed 's,/ , ,' | sort -u
}

# vm_apt DIR TOOL ARGUMENT...: apt with the sources DIR/sources.list and lists
# of its own, so that /etc/apt and /var/lib/apt stay as they are
vm_apt() {
	local dir=$1 tool=$2
	shift 2
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	[[ $dir == */apt-host ]] || set -- -o APT::Architecture="$VM_DEB" -o APT::Architectures="$VM_DEB" "$@"
	"$tool" -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::State::Lists="$dir/lists" -o Dir::Cache="$dir/cache" -o APT::Sandbox::User=root \
		-o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}

# vm_install PACKAGE...: from the distribution the machine runs, and no other
vm_install() {
	local dir=$VM_CACHE/apt-host codename
	vm_note "installing: $*"
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-sid}")
	mkdir -p "$dir"
	vm_mirror | awk -v c="$codename" '
		$2 == c || index($2, c "-") == 1 { print "deb", $0 }
		# QEMU 7.2 of bookworm panics 6.12 kernels at random; its backports have 10
		$2 == c && c == "bookworm" { print "deb", $1, c "-backports", $3 }' | sort -u >"$dir/sources.list"
	vm_apt "$dir" apt-get -qq update || return
	[ "$codename" != bookworm ] || [[ $1 != qemu-system-* ]] || set -- -t bookworm-backports "$@"
	DEBIAN_FRONTEND=noninteractive vm_apt "$dir" apt-get -qq -y --no-install-recommends \
		-o Dpkg::Use-Pty=0 install "$@" >"$dir/log" 2>&1 || { tail -n 5 "$dir/log" >&2; return 1; }
	rm -rf "$dir"
}

vm_qemu_version() { { "$VM_QEMU_BIN" --version 2>/dev/null || true; } | sed -n 's/.*version \([0-9]*\)\..*/\1/p'; }

# vm_need [NAME...]: these packages, or those of these commands, are installed (with
# none named: all the VM needs for any case), from apt if need be
vm_need() {
	local entry missing=() qemu='' least=8
	for entry in $VM_PACKAGES ${1:+$VM_PACKAGES_SOME} $(arch_packages); do
		[ $# -eq 0 ] || [[ " $* " == *" ${entry%%:*} "* || " $* " == *" ${entry#*:} "* ]] || continue
		vm_has "${entry#*:}" || missing+=("${entry%%:*}")
	done
	! grep -qs '=bookworm$' /etc/os-release || least=10
	# the zero in front: no QEMU at all is version 0
	if [ $# -eq 0 ] && [ "0$(vm_qemu_version)" -lt "$least" ]; then qemu=$VM_QEMU_PACKAGE; fi
	[ "${#missing[@]}" -gt 0 ] || [ "$qemu" ] || return 0
	if [ "$(id -u)" -ne 0 ] || ! vm_has apt-get; then
		vm_die "missing, and only root with apt can install it: ${missing[*]} ${qemu:+$qemu (>= $least)}"
		return
	fi
	if [ "${#missing[@]}" -gt 0 ]; then vm_install "${missing[@]}" || return; fi
	[ -z "$qemu" ] || vm_install "$qemu"
}

# vm_refresh: $VM_CACHE/index has a line "VERSION SUITE PACKAGE-VERSION" for
# each kernel in Debian's suites, at most a day old where the network allows. A
# fourth word "pool" says that the suites list the image but not its modules.
vm_refresh() {
	local dir=$VM_CACHE/apt index=$VM_CACHE/index uri suite key names ok=
	[ -z "$(find "$index" -mtime -1 2>/dev/null)" ] || return 0
	mkdir -p "$dir"
	uri=${UBLK_TEST_MIRROR:-$(vm_mirror | awk '$2 !~ /-security$/ && $1 ~ /debian/ { print $1; exit }')}
	key=$(find /usr/share/keyrings -name 'debian-archive-keyring.*' | head -n 1)
	for suite in $VM_SUITES; do # a list that has not changed for a while will do
		echo "deb [check-valid-until=no check-date=no${key:+ signed-by=$key}] $uri $suite main"
	done >"$dir/sources.list"
	if [ -z "$uri" ]; then
		vm_note "no Debian mirror among this machine's apt sources: set UBLK_TEST_MIRROR to one"
	elif vm_apt "$dir" apt-get -qq update --error-on=any >"$dir/log" 2>&1; then
		ok=yes
	else
		tail -n 1 "$dir/log" >&2
		vm_note "cannot refresh the list of kernels; going by what is cached in $VM_CACHE"
	fi
	names=$(vm_apt "$dir" apt-cache pkgnames linux-image- | grep -E "^linux-image-[0-9][^-]*(-[0-9]+)?-$VM_ARCH\$") || true
	# A line of madison is "PACKAGE | VERSION | URI SUITE/main ...", and of
	# depends "  Depends: <PACKAGE>" if there is no such package.
	# shellcheck disable=SC2086 # a list
	[ -z "$names" ] || { vm_apt "$dir" apt-cache depends $names; vm_apt "$dir" apt-cache madison $names; } |
		sed -n "s,^  Depends: <linux-modules-\(.*\)-$VM_ARCH>,\1,p
			s,^ *linux-image-\(.*\)-$VM_ARCH *| *\([^ ]*\) *| [^ ]* \([^ ]*\)/main .*,\1 \3 \2,p" |
		awk 'NF == 1 { pool[$1] = " pool"; next } { print $0 pool[$1] }' | sort -V -u >"$index.new"
	[ ! -s "$index.new" ] || mv "$index.new" "$index"
	# without the network, not again for each kernel: in an hour
	[ "$ok" ] || [ ! -e "$index" ] || touch -d '23 hours ago' "$index"
}

# vm_match SPEC: the newest kernel SPEC stands for, among the index lines on
# stdin; one that the suites have all of comes before a newer one that they have not
vm_match() {
	awk -v spec="$1" '
		(spec == "newest" && (NF == 1 || $2 == "trixie-backports")) || $1 == spec ||
		(index($1, spec) == 1 && substr($1, length(spec) + 1, 1) ~ /[.+-]/) { print ($4 == "pool" ? 0 : 1), $1 }
	' | sort -k 1,1n -k 2,2V | sed -n '$s/.* //p'
}

# vm_index VERSION WORD: a word of the kernel's line in the index
vm_index() { awk -v v="$1" -v word="$2" '$1 == v { print $word; exit }' "$VM_CACHE/index"; }

# vm_kernel SPEC: print the directory of the kernel a series (6.12), a version
# or "newest" stands for; in it are vmlinuz, root/lib/modules and name
vm_kernel() {
	local version='' cached
	mkdir -p "$VM_CACHE/kernels"
	exec 9>"$VM_CACHE/lock"
	flock 9 # one run fetches, another beside it waits and finds it there
	vm_refresh
	[ ! -e "$VM_CACHE/index" ] || version=$(vm_match "$1" <"$VM_CACHE/index")
	if [ -z "$version" ] || ! vm_fetch "$version"; then
		cached=$(find "$VM_CACHE/kernels" -mindepth 1 -maxdepth 1 -printf '%f\n' | vm_match "$1")
		[ "$cached" ] || { vm_die "no kernel for '$1'"; return; }
		vm_note "kernel ${version:-for $1} cannot be had; using $cached, which is cached"
		version=$cached
	fi
	exec 9>&-
	echo "$VM_CACHE/kernels/$version"
}

# vm_kernels_all: the oldest and the stable series, and every later one Debian still has
vm_kernels_all() {
	(mkdir -p "$VM_CACHE" && exec 9>"$VM_CACHE/lock" && flock 9 && vm_refresh)
	{ cat "$VM_CACHE/index" || find "$VM_CACHE/kernels" -mindepth 1 -maxdepth 1 -printf '%f\n'; } 2>/dev/null |
		awk -F . '{ sub(/[^0-9].*/, "", $2); print $1 "." $2 }' | sort -V -u
}

# vm_download DIR PACKAGE...: fetch and unpack there, in DIR/x; nothing is installed
vm_download() {
	local dir=$1 deb
	shift
	(cd "$dir" && vm_apt "$VM_CACHE/apt" apt-get -qq download "$@" >log 2>&1) || { tail -n 1 "$dir/log" >&2; return 1; }
	for deb in "$dir"/*.deb; do
		dpkg-deb -x "$deb" "$dir/x" && rm "$deb" || return
	done
}

# vm_tree NAME SUITE PACKAGES: print a directory with these packages and all they
# depend on, unpacked but not set up; fetched once
vm_tree() {
	local dir=$VM_CACHE/$1 tmp deb
	exec 9>"$VM_CACHE/lock"
	flock 9 # as in vm_kernel()
	if [ ! -d "$dir" ]; then
		vm_note "fetching the $1 of a $VM_DEB machine"
		tmp=$(mktemp -d "$VM_CACHE/tmp.XXXXXX") && touch "$tmp/status" || return
		# shellcheck disable=SC2086 # a list
		vm_apt "$VM_CACHE/apt" apt-get -qq -y -t "$2" --no-install-recommends --download-only \
			-o Dir::State::status="$tmp/status" -o Dir::Cache::archives="$tmp" install $3 >"$tmp/log" 2>&1 ||
			{ tail -n 3 "$tmp/log" >&2; return 1; }
		mkdir "$tmp/x" # /bin and its like first: as they are links in base-files
		for deb in "$tmp"/base-files_*.deb "$tmp"/*.deb; do [ ! -e "$deb" ] || dpkg-deb -x "$deb" "$tmp/x" || return; done
		mv "$tmp/x" "$dir" && rm -rf "$tmp"
	fi
	exec 9>&-
	echo "$dir"
}

# vm_pool DIR PACKAGE VERSION: fetch a package into DIR that the suites do not
# list any more from where it lay, and may still lie. No list vouches for such a
# file, so it must be one that runs in the emulated machine only.
vm_pool() {
	vm_note "$2 is not listed any more, trying the mirror's pool"
	/usr/lib/apt/apt-helper -qq download-file \
		"$(awk '{ print $(NF - 2); exit }' "$VM_CACHE/apt/sources.list")/pool/main/l/linux/$2_$3_${VM_ARCH##*-}.deb" \
		"$1/$2.deb" >"$1/log" 2>&1
}

# vm_fetch VERSION: $VM_CACHE/kernels/VERSION is there
vm_fetch() {
	local version=$1 dir=$VM_CACHE/kernels/$1 tmp new release=$1-$VM_ARCH part parts=()
	[ ! -d "$dir" ] || return 0
	vm_note "fetching kernel $version"
	rm -rf "$VM_CACHE"/tmp.* # of a run that was killed; no other runs, for there is the lock
	tmp=$(mktemp -d "$VM_CACHE/tmp.XXXXXX") && new=$tmp/new && mkdir -p "$new/root/usr/lib" || return
	# a newer linux-image only depends on the parts
	for part in $(vm_apt "$VM_CACHE/apt" apt-cache depends "linux-image-$release" |
		sed -n "s/^  Depends: <*\(linux-[a-z]*-$release\)>*\$/\1/p"); do
		if [ "$(vm_apt "$VM_CACHE/apt" apt-cache madison "$part")" ]; then parts+=("$part")
		# linux-base only has the lists of what is built in
		else vm_pool "$tmp" "$part" "$(vm_index "$version" 3)" || [[ $part == linux-base-* ]] || break; fi
	done
	vm_download "$tmp" "linux-image-$release" "${parts[@]}" &&
		cp "$(find "$tmp/x" -name 'vmlinuz*' -type f | head -n 1)" "$new/vmlinuz" &&
		mkdir "$new/root/usr/lib/modules" &&
		cp -a "$(find "$tmp/x" -path "*/lib/modules/$release" -type d | head -n 1)" "$new/root/usr/lib/modules/" &&
		ln -s usr/lib "$new/root/lib" &&
		vm_index "$version" 3 | sed 's/-.*//' >"$new/name" &&
		{ [ "$(find "$new/root" -name 'ublk_drv.ko*')" ] || vm_driver "$version" "$tmp" "$new"; } &&
		PATH=$PATH:/sbin depmod -b "$new/root" "$release" && mv "$new" "$dir"
	set -- $?
	rm -rf "$tmp"
	return "$1"
}

# vm_driver VERSION TMP NEW: build ublk_drv for a kernel Debian builds without it (6.1)
vm_driver() {
	local version=$1 dir=$2/driver new=$3 series headers source
	series=$(echo "$version" | cut -d. -f1,2)
	source=$(vm_index "$version" 3)
	vm_note "building ublk_drv for $version"
	mkdir -p "$dir/build" && vm_download "$dir" "linux-source-$series=$source" \
		"linux-headers-$version-$VM_ARCH" "linux-headers-$version-common" "linux-kbuild-$series=$source" libelf1 || return
	# tar stops when it has the file, of which xz may complain
	tar -xJf "$dir/x/usr/src/linux-source-$series.tar.xz" --occurrence=1 --to-stdout \
		"linux-source-$series/drivers/block/ublk_drv.c" >"$dir/build/ublk_drv.c" 2>"$dir/log" || [ -s "$dir/build/ublk_drv.c" ] || return
	echo 'obj-m = ublk_drv.o' >"$dir/build/Makefile"
	# The headers are meant to lie in /usr/src, and their tools to find libelf
	headers=$dir/x/usr/src/linux-headers-$version-$VM_ARCH
	sed -i "s,/usr/src/,$dir/x/usr/src/," "$headers/Makefile"
	LD_LIBRARY_PATH=$dir/x/usr/lib/x86_64-linux-gnu make -s -C "$headers" M="$dir/build" CC=gcc modules >"$dir/log" 2>&1 || {
		tail -n 5 "$dir/log" >&2
		return 1
	}
	install -D "$dir/build/ublk_drv.ko" "$new/root/usr/lib/modules/$version-$VM_ARCH/extra/ublk_drv.ko"
}

