################################################################################
#
# kos-api
#
################################################################################

KOS_API_VERSION = $(KOS_VERSION)
KOS_API_SITE = $(KOS_CHECKOUT)
KOS_API_SITE_METHOD = local
KOS_API_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = $(KOS_RSYNC_EXCLUSIONS)
KOS_API_SUBDIR = services/api
KOS_API_LICENSE = $(KOS_LICENSE)
KOS_API_LICENSE_FILES = $(KOS_LICENSE_FILES)
KOS_API_CARGO_ENV = $(KOS_CARGO_ENV)
KOS_API_PRE_CONFIGURE_HOOKS += KOS_FETCH_CRATES

define KOS_API_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 \
		$(KOS_CARGO_TARGET_DIR)/$(KOS_PROFILE_DIR)/kos-api \
		$(TARGET_DIR)/bin/kos-api
endef

$(eval $(cargo-package))
