# ublk: make, make CC=musl-gcc, make CC=clang, make ARCH=aarch64; make test,
# make demo, make bench, make dist, make install, make uninstall
ifeq ($(origin CC),default)
CC = gcc
endif
# for another machine, with Debian's cross compiler
cross_x86_64 = x86_64-linux-gnu-
cross_aarch64 = aarch64-linux-gnu-
cross_riscv64 = riscv64-linux-gnu-
cross_armhf = arm-linux-gnueabihf-
ifdef ARCH
CROSS = $(or $(cross_$(ARCH)),$(error ARCH=$(ARCH): x86_64, aarch64, riscv64 or armhf))
CC = $(CROSS)gcc
endif
# musl is for who wants it small, so the compiler may look at all of it at once; gcc knows -Oz since 12. Of what makes
# some code larger than it saves elsewhere, and of registers that need longer instructions, nothing
knows = $(if $(shell $(CC) $(1) -E -x c /dev/null 2>/dev/null),$(1),$(2))
small := $(call knows,-Oz,-Os) $(call knows,-mgeneral-regs-only,) $(call knows,-malign-data=abi,) -fno-tree-loop-optimize -fno-thread-jumps \
	-fno-tree-dominator-opts -fno-tree-tail-merge -fno-tree-coalesce-vars -fno-caller-saves -fno-partial-inlining \
	-fno-jump-tables -fno-if-conversion -fno-shrink-wrap -fno-optimize-sibling-calls -fno-move-loop-invariants
CFLAGS ?= $(if $(findstring musl,$(CC)),$(small) -flto -flto-partition=one,-O2) -g
PREFIX ?= /usr/local
UDEVDIR ?= $(PREFIX)/lib/udev/rules.d
SYSTEMDUNITDIR ?= $(PREFIX)/lib/systemd/system
MANDIR ?= $(PREFIX)/share/man
BASHCOMPDIR ?= $(PREFIX)/share/bash-completion/completions
# These look below /usr and /etc only: with another PREFIX name the directory, say INITRAMFSTOOLSDIR=/etc/initramfs-tools,
# DRACUTDIR=/usr/lib/dracut/modules.d or MKINITCPIODIR=/etc/initcpio
INITRAMFSTOOLSDIR ?= $(PREFIX)/share/initramfs-tools
DRACUTDIR ?= $(PREFIX)/lib/dracut/modules.d
MKINITCPIODIR ?= $(PREFIX)/lib/initcpio
DESTDIR ?=
V ?= 0
Q = $(if $(filter 1,$(V)),,@)

# the rooms: CONTRIBUTING.md has a map of them
sources = $(sort $(wildcard *.c lib/*.c host/*.c store/*.c serve/*.c cli/*.c))
headers = $(sort $(wildcard *.h */*.h))
# where objects go, and with another O the program as well
O ?= build
program = $(if $(filter build,$(O)),ublk,$(O)/ublk)
objs = $(sources:%.c=$(O)/%.o)

comma = ,
# small: only functions with buffers of bytes are guarded, which is what overflows; all with a local address would be a 20th of it
override CFLAGS += $(if $(findstring musl,$(CC)),-fstack-protector --param=ssp-buffer-size=4,-fstack-protector-strong)
override CFLAGS += -I. -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Wall -Wextra -fno-strict-aliasing -MMD -MP
# small: a static program has a fixed address, nobody unwinds it, and pages that are half empty cost as much as full ones
override CFLAGS += -ffunction-sections -fdata-sections -fno-pie -fno-unwind-tables -fno-asynchronous-unwind-tables
# small again: what the loader would make read-only starts at a page, and here that is not a sixth of a KiB;
# nor does what is written to: a page of the file that has both is mapped twice
override LDFLAGS += $(if $(findstring musl,$(CC)),-Wl$(comma)-z$(comma)norelro -Wl$(comma)-z$(comma)common-page-size=64 -Wl$(comma)--sort-section=alignment) -static -pthread -Wl,--gc-sections -Wl,-z,noseparate-code -Wl,--build-id=none

all: $(program)

$(program): $(objs)
	$(if $(Q),@echo "  LD $@")
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(objs)

# for the tests, which bring a main() and the rooms they look into along
$(O)/ublk.a: $(objs)
	$(Q)rm -f $@ && $(CROSS)ar rc $@ $^

# objects of another compiler or other flags are of no use
$(O)/.flags: FORCE
	@mkdir -p $(@D) && echo '$(CC) $(CFLAGS)' | cmp -s - $@ || echo '$(CC) $(CFLAGS)' >$@

$(O)/%.o: %.c Makefile $(O)/.flags
	$(if $(Q),@echo "  CC $*.c")
	$(Q)mkdir -p $(@D) && $(CC) $(CFLAGS) -pthread -c -o $@ $<

# all that it takes to build somewhere else
files:
	@echo $(sources) $(headers) Makefile

check: test
test: $(program)
	./test.sh all
test-unit test-vm test-soak test-kernels demo bench bench-smp: $(program)
	./test.sh $(@:test-%=%)

# for what makes an initramfs
hooks = share/initramfs-tools/hooks/ublk share/initramfs-tools/scripts/local-top/ublk $(sort $(wildcard share/dracut/90ublk/*)) \
	share/mkinitcpio/install/ublk share/mkinitcpio/hooks/ublk
where = $(patsubst share/initramfs-tools/%,$(INITRAMFSTOOLSDIR)/%,$(patsubst share/dracut/%,$(DRACUTDIR)/%,$(1:share/mkinitcpio/%=$(MKINITCPIODIR)/%)))

# put,MODE,FILE,PATH: there, with the program's own path in it
put = install -D -m $(1) $(2) $(DESTDIR)$(3) && sed -i 's,@ublk@,$(PREFIX)/sbin/ublk,' $(DESTDIR)$(3)
define newline

	
endef

install: $(program)
	install -D -s -m 755 $(program) $(DESTDIR)$(PREFIX)/sbin/ublk
	ln -sf ublk $(DESTDIR)$(PREFIX)/sbin/ublk-mem
	ln -sf ublk $(DESTDIR)$(PREFIX)/sbin/ublk-file
	$(call put,644,share/udev/60-ublk.rules,$(UDEVDIR)/60-ublk.rules)
	$(call put,644,share/systemd/ublk@.service,$(SYSTEMDUNITDIR)/ublk@.service)
	$(call put,644,share/man/ublk.8,$(MANDIR)/man8/ublk.8)
	$(call put,644,share/bash-completion/ublk,$(BASHCOMPDIR)/ublk)
	$(foreach hook,$(hooks),$(call put,755,$(hook),$(call where,$(hook)))$(newline))

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/sbin/ublk $(DESTDIR)$(PREFIX)/sbin/ublk-mem $(DESTDIR)$(PREFIX)/sbin/ublk-file \
		$(DESTDIR)$(UDEVDIR)/60-ublk.rules $(DESTDIR)$(SYSTEMDUNITDIR)/ublk@.service $(DESTDIR)$(MANDIR)/man8/ublk.8 $(DESTDIR)$(BASHCOMPDIR)/ublk \
		$(addprefix $(DESTDIR),$(call where,$(hooks)))
	rmdir $(DESTDIR)$(DRACUTDIR)/90ublk 2>/dev/null || true

# A release, the same byte by byte whenever and wherever the same compilers build it: the sources, and the binaries
version = $(shell sed -n 's/^\#define VERSION.*"\(.*\)"$$/\1/p' cli/main.c)
dist-source: tree = $(or $(filter-out .%,$(shell git ls-files 2>/dev/null)),$(shell find share tests test.sh *.md LICENSE -type f ! -name '.*') $(sources) $(headers) Makefile)
dist-source:
	mkdir -p build/dist
	tar -cf build/dist/ublk-$(version).tar --format=ustar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner \
		--mode=u=rwX,go=rX,ug-s --transform 's,^,ublk-$(version)/,' $(sort $(tree))
	gzip -9nf build/dist/ublk-$(version).tar

dist:
	rm -rf build/dist
	for arch in x86_64 aarch64 riscv64 armhf; do \
		cc=$$([ $$arch = x86_64 ] && echo CC=musl-gcc || echo ARCH=$$arch) && dir=build/dist/$$arch && \
		mkdir -p $$dir && cp --parents $(sources) $(headers) Makefile $$dir && $(MAKE) -s -C $$dir $$cc strip && \
		mv $$dir/ublk build/dist/ublk-$$arch && rm -r $$dir || exit; \
	done
	$(MAKE) -s dist-source
	cd build/dist && sha256sum ublk-* | tee SHA256SUMS

strip: $(program)
	$(CROSS)strip -R .comment $(if $(findstring musl,$(CC)),-R .eh_frame) $(program)

clean:
	rm -rf ublk build

.PHONY: all check files dist dist-source strip test test-unit test-vm test-soak test-kernels demo bench bench-smp install uninstall clean FORCE
-include $(objs:.o=.d)
