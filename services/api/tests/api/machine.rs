//! The machine: what is told of its disk and settings, and the factory reset.

use serde_json::json;

use crate::fakes::init::{Data, GOOD};
use crate::fixture::{Fixture, run};

const CORRUPT: Data = Data {
    kind: "tmpfs",
    detail: "/dev/vda2 has no file system that can be read.",
    problem: "corrupt",
    advice: "Take the disk out & copy what you need.",
    free: 200_000_000,
};

#[test]
fn board_disk_and_data_are_told() {
    run(async {
        let kos = Fixture::start().await;
        let system = kos.ask("GET", "/api/v1/system").code().send().await;
        let system = system.json().await;
        assert_eq!(system["board"], "pc-x86_64");
        assert_eq!(system["boot_disk"], "/dev/vda, QEMU HARDDISK, 8.0 GB");
        assert_eq!(system["setup_problem"], "");
        let data = json!({
            "kind": "disk", "detail": GOOD.detail, "problem": "", "advice": "",
            "bytes": 7_800_000_000_u64, "free": GOOD.free,
        });
        assert_eq!(system["data"], data);
        let page = kos.ask("GET", "/").code().send().await.text().await;
        assert!(page.contains("2.4 GB used, 5.4 GB free"), "{page}");
        assert!(page.contains("PCs, mini PCs and servers with UEFI"));
        assert!(!page.contains("trouble-title"), "{page}");
    });
}

#[test]
fn a_problem_is_told_with_what_helps() {
    run(async {
        let kos = Fixture::start().await;
        let setup = "kos-box.toml, line 3: hostname: found '<b>', allowed: letters";
        kos.init.set_machine(CORRUPT, setup);
        let system = kos.ask("GET", "/api/v1/system").code().send().await;
        let system = system.json().await;
        assert_eq!(system["data"]["problem"], "corrupt");
        assert_eq!(system["setup_problem"], setup);
        let page = kos.ask("GET", "/").code().send().await.text().await;
        assert!(page.contains("The data disk cannot be read"), "{page}");
        assert!(page.contains("Take the disk out &#38; copy"), "{page}");
        assert!(
            page.contains("found &#39;&#60;b&#62;&#39;, allowed"),
            "{page}"
        );
        assert!(page.contains("in memory only"));
        let notice = page.split("id=\"trouble-title\"").nth(1).unwrap();
        let notice = notice.split("</section>").next().unwrap();
        assert!(notice.contains("href=\"/factory-reset\""), "{notice}");
        assert!(!notice.contains("reboot"), "{notice}");
        // A code that this version does not know is told in PID 1's words.
        let unknown = Data {
            problem: "haunted",
            ..CORRUPT
        };
        kos.init.set_machine(unknown, "");
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let page = kos.ask("GET", "/").code().send().await.text().await;
        assert!(page.contains("The data disk is not well"), "{page}");
    });
}

#[test]
fn a_reset_wants_the_host_name() {
    run(async {
        let kos = Fixture::start().await;
        let reset = async |confirm: &str| {
            let ask = kos.ask("POST", "/api/v1/system/factory-reset").code();
            let answer = ask.json(&json!({ "confirm": confirm })).send().await;
            (answer.status.as_u16(), answer.text().await)
        };
        for wrong in ["", "yes", "attic.local", "att\nic"] {
            let (status, error) = reset(wrong).await;
            assert_eq!(status, 400, "{wrong}");
            let told = format!("found '{}', allowed: 'attic'", wrong.escape_default());
            let told = told.replace('\\', "\\\\");
            assert!(error.contains(&told), "{error}");
        }
        let empty = kos.ask("POST", "/api/v1/system/factory-reset").code();
        assert_eq!(empty.json(&json!({})).status().await, 400);
        assert!(kos.init.calls().is_empty());
        assert_eq!(reset("attic").await.0, 202);
        let reason = "factory reset asked for over the API from 127.0.0.1 (pairing code)";
        assert_eq!(kos.init.calls(), [reason]);
    });
}

#[test]
fn the_console_resets_with_the_same_confirmation() {
    run(async {
        let kos = Fixture::start().await;
        let token = kos.pair().await;
        let page = kos.ask("GET", "/factory-reset").cookie(&token);
        let page = page.send().await.text().await;
        assert!(page.contains("<code>attic</code>"), "{page}");
        assert!(page.contains("Not touched"), "{page}");
        let form = |confirm: &str| {
            let ask = kos.ask("POST", "/factory-reset").cookie(&token);
            ask.form(&format!("confirm={confirm}"))
        };
        let wrong = form("kitchen").send().await;
        assert_eq!(wrong.status, 400);
        let page = wrong.text().await;
        assert!(
            page.contains("found &#39;kitchen&#39;, allowed: &#39;attic&#39;"),
            "{page}"
        );
        assert_eq!(kos.ask("POST", "/factory-reset").status().await, 401);
        let foreign = form("attic").header("origin", "http://evil.example");
        assert_eq!(foreign.status().await, 403);
        assert!(kos.init.calls().is_empty());
        let done = form("Attic").send().await;
        assert_eq!(done.status, 200);
        assert!(done.text().await.contains("starts anew"));
        let reason = "factory reset asked for in the console from 127.0.0.1 (session 1)";
        assert_eq!(kos.init.calls(), [reason]);
    });
}

#[test]
fn boots_are_told_with_why_they_ended() {
    run(async {
        let kos = Fixture::start().await;
        assert_eq!(kos.ask("GET", "/api/v1/boots").status().await, 401);
        let boots = kos.ask("GET", "/api/v1/boots").code().send().await;
        let boots = boots.json().await;
        assert_eq!(boots[0]["down"]["cause"], "");
        assert_eq!(boots[1]["down"]["by"], "api");
        assert_eq!(boots[1]["down"]["killed"][0]["name"], "camera");
        let page = kos.ask("GET", "/boots").code().send().await.text().await;
        for told in [
            "through the API, asked by api",
            "Killed on the way: camera, not gone within 2 s",
            "2.24 s until its disks were written",
            "kernel panic",
            "PID 1 did not feed the watchdog in time.",
            // A panic's text is a stranger's; its levels are colours.
            "<span class=\"bad\">[32400.2] Kernel panic",
            "<span>[32400.1] sysrq",
            "sysrq &#60;triggered&#62; crash",
        ] {
            assert!(page.contains(told), "{told} is not in {page}");
        }
        assert_eq!(page.matches("The way down").count(), 1);
    });
}
