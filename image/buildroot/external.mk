# What the five kOS packages share, and the kernel's base configuration.
#
# The packages are built from the checkout that this tree is part of: what is packed is what is
# checked out, as with `cargo xtask image`.

KOS_PACKAGES = kos-init kos-launch kos-api kos-net kos-infer
KOS_CHECKOUT := $(realpath $(BR2_EXTERNAL_KOS_PATH)/../..)
# Of [workspace.package], which every crate inherits.
KOS_VERSION := $(shell sed -n '/^\[workspace\.package\]$$/,/^\[/s/^version = "\(.*\)"$$/\1/p' \
	$(KOS_CHECKOUT)/Cargo.toml)
KOS_LICENSE = MIT or Apache-2.0
KOS_LICENSE_FILES = LICENSE-MIT LICENSE-APACHE
# Cargo's own output, which this build's output may lie in.
KOS_RSYNC_EXCLUSIONS = --exclude /target

# One directory for all programs, so that what they have in common is compiled once.
KOS_CARGO_TARGET_DIR = $(BUILD_DIR)/kos-programs
KOS_PROFILE_DIR = $(RUSTC_TARGET_NAME)/$(if $(BR2_ENABLE_DEBUG),debug,release)

# Static programs that name no directory of the building machine: the target has no C library.
KOS_RUSTFLAGS = \
	-Ctarget-feature=+crt-static \
	--remap-path-prefix=$(BR_CARGO_HOME)=/cargo \
	--remap-path-prefix=$(BASE_DIR)=/kos
KOS_RUSTFLAGS_VARIABLE = CARGO_TARGET_$(call UPPERCASE,$(RUSTC_TARGET_NAME))_RUSTFLAGS
KOS_CARGO_ENV = \
	CARGO_TARGET_DIR=$(KOS_CARGO_TARGET_DIR) \
	$(KOS_RUSTFLAGS_VARIABLE)="$(KOS_RUSTFLAGS)"

# Buildroot vendors the crates of a package when it downloads the package, and these packages are
# not downloaded. So `make source` fetches what Cargo.lock names, by checksum, into the directory
# that Buildroot gives to cargo; with everything there this does not touch the network.
define KOS_FETCH_CRATES
	$(HOST_MAKE_ENV) $(PKG_COMMON_CARGO_ENV) \
		cargo fetch --locked \
			--manifest-path $(KOS_CHECKOUT)/Cargo.toml \
			--target $(RUSTC_TARGET_NAME)
endef

include $(sort $(wildcard $(BR2_EXTERNAL_KOS_PATH)/package/*/*.mk))

.PHONY: kos-crates
kos-crates: host-rustc
	@$(call MESSAGE,"Fetching the crates of kOS")
	$(Q)$(KOS_FETCH_CRATES)

$(addsuffix -source,$(KOS_PACKAGES)): kos-crates

# The fragments in image/kernel are written for `make tinyconfig`, where everything is off that
# they do not name. Buildroot's BR2_LINUX_KERNEL_DEFCONFIG can only say NAME_defconfig, and the
# kernel has no tiny_defconfig; so the name "tiny" is made to mean the kernel's own target. This
# works because Buildroot reads the variable when the recipe runs.
ifeq ($(BR2_LINUX_KERNEL_USE_DEFCONFIG):$(call qstrip,$(BR2_LINUX_KERNEL_DEFCONFIG)),y:tiny)
LINUX_KCONFIG_DEFCONFIG = tinyconfig
endif

# A 64-bit ARM kernel unpacks itself only under UEFI: with CONFIG_EFI_ZBOOT the kernel's own build
# leaves such an image beside the one for other boot loaders, and UEFI boards take it.
ifeq ($(BR2_aarch64),y)
define KOS_INSTALL_EFI_IMAGE
	$(INSTALL) -m 0644 -D $(LINUX_ARCH_PATH)/boot/vmlinuz.efi $(BINARIES_DIR)/vmlinuz.efi
endef
LINUX_POST_INSTALL_IMAGES_HOOKS += KOS_INSTALL_EFI_IMAGE
endif
