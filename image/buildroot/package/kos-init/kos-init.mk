################################################################################
#
# kos-init
#
################################################################################

KOS_INIT_VERSION = $(KOS_VERSION)
KOS_INIT_SITE = $(KOS_CHECKOUT)
KOS_INIT_SITE_METHOD = local
KOS_INIT_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = $(KOS_RSYNC_EXCLUSIONS)
KOS_INIT_SUBDIR = init/pid1
KOS_INIT_LICENSE = $(KOS_LICENSE)
KOS_INIT_LICENSE_FILES = $(KOS_LICENSE_FILES)
KOS_INIT_CARGO_ENV = $(KOS_CARGO_ENV)
KOS_INIT_PRE_CONFIGURE_HOOKS += KOS_FETCH_CRATES

define KOS_INIT_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 \
		$(KOS_CARGO_TARGET_DIR)/$(KOS_PROFILE_DIR)/kos-init \
		$(TARGET_DIR)/init
endef

$(eval $(cargo-package))
