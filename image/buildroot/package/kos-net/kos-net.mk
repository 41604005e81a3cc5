################################################################################
#
# kos-net
#
################################################################################

KOS_NET_VERSION = $(KOS_VERSION)
KOS_NET_SITE = $(KOS_CHECKOUT)
KOS_NET_SITE_METHOD = local
KOS_NET_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = $(KOS_RSYNC_EXCLUSIONS)
KOS_NET_SUBDIR = services/net
KOS_NET_LICENSE = $(KOS_LICENSE)
KOS_NET_LICENSE_FILES = $(KOS_LICENSE_FILES)
KOS_NET_CARGO_ENV = $(KOS_CARGO_ENV)
KOS_NET_PRE_CONFIGURE_HOOKS += KOS_FETCH_CRATES

define KOS_NET_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 \
		$(KOS_CARGO_TARGET_DIR)/$(KOS_PROFILE_DIR)/kos-net \
		$(TARGET_DIR)/bin/kos-net
endef

$(eval $(cargo-package))
