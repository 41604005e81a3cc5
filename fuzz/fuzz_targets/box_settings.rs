//! The owner's settings on the boot partition and the board's description: FAT files that anybody
//! with the card can write.

#![no_main]

use kos_manifest::board_info::BoardInfo;
use kos_manifest::box_settings::BoxSettings;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(settings) = BoxSettings::parse("kos-box.toml", text) {
        // What is handed on to a service is read by it with the same code.
        if let Some(network) = &settings.network {
            let again = kos_manifest::box_settings::NetworkSettings::parse("x", &network.to_toml());
            assert_eq!(again.as_ref(), Ok(network));
        }
        if let Some(wifi) = &settings.wifi {
            let again = kos_manifest::box_settings::WifiSettings::parse("x", &wifi.to_toml());
            assert_eq!(again.as_ref(), Ok(wifi));
        }
    }
    if let Ok(board) = BoardInfo::parse("board.toml", text) {
        assert_eq!(BoardInfo::parse("board.toml", &board.to_toml()), Ok(board));
    }
});
