################################################################################
#
# kos-infer
#
################################################################################

KOS_INFER_VERSION = $(KOS_VERSION)
KOS_INFER_SITE = $(KOS_CHECKOUT)
KOS_INFER_SITE_METHOD = local
KOS_INFER_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = $(KOS_RSYNC_EXCLUSIONS)
KOS_INFER_SUBDIR = services/infer
KOS_INFER_LICENSE = $(KOS_LICENSE)
KOS_INFER_LICENSE_FILES = $(KOS_LICENSE_FILES)
KOS_INFER_CARGO_ENV = $(KOS_CARGO_ENV)
KOS_INFER_PRE_CONFIGURE_HOOKS += KOS_FETCH_CRATES

define KOS_INFER_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 \
		$(KOS_CARGO_TARGET_DIR)/$(KOS_PROFILE_DIR)/kos-infer \
		$(TARGET_DIR)/bin/kos-infer
endef

$(eval $(cargo-package))
