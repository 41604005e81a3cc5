################################################################################
#
# kos-launch
#
################################################################################

KOS_LAUNCH_VERSION = $(KOS_VERSION)
KOS_LAUNCH_SITE = $(KOS_CHECKOUT)
KOS_LAUNCH_SITE_METHOD = local
KOS_LAUNCH_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = $(KOS_RSYNC_EXCLUSIONS)
KOS_LAUNCH_SUBDIR = init/launch
KOS_LAUNCH_LICENSE = $(KOS_LICENSE)
KOS_LAUNCH_LICENSE_FILES = $(KOS_LICENSE_FILES)
KOS_LAUNCH_CARGO_ENV = $(KOS_CARGO_ENV)
KOS_LAUNCH_PRE_CONFIGURE_HOOKS += KOS_FETCH_CRATES

define KOS_LAUNCH_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 \
		$(KOS_CARGO_TARGET_DIR)/$(KOS_PROFILE_DIR)/kos-launch \
		$(TARGET_DIR)/bin/kos-launch
endef

$(eval $(cargo-package))
