//! Pairing with the owner's key, signed by the real `ssh-keygen`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{Fixture, run};

/// Keys as people have them, in a directory of their own.
struct Keys(TempDir);

impl Keys {
    /// None, told aloud, when this machine has no OpenSSH.
    fn make(names: &[&str]) -> Option<Self> {
        let keys = Keys(tempfile::tempdir().unwrap());
        for name in names {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]);
            match command.arg(keys.path(name)).status() {
                Ok(status) => assert!(status.success()),
                Err(error) => {
                    eprintln!("SKIPPED: needs ssh-keygen (openssh-client): {error}");
                    return None;
                }
            }
        }
        Some(keys)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn public(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap()
    }

    fn sign(&self, name: &str, namespace: &str, text: &str) -> String {
        sign(&self.path(name), namespace, text)
    }
}

fn sign(key: &Path, namespace: &str, text: &str) -> String {
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-Y", "sign", "-q", "-n", namespace, "-f"])
        .arg(key);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

async fn nonce(kos: &Fixture) -> String {
    let answer = kos.ask("POST", "/api/v1/owner/challenge").send().await;
    assert_eq!(answer.status, 200);
    let challenge = answer.json().await;
    assert_eq!(challenge["namespace"], "kos-owner");
    assert_eq!(challenge["valid_s"], 120);
    challenge["nonce"].as_str().unwrap().to_owned()
}

async fn answer(kos: &Fixture, nonce: &str, signature: &str) -> (u16, Value) {
    let proof = json!({ "nonce": nonce, "signature": signature });
    let ask = kos.ask("POST", "/api/v1/owner/session").json(&proof);
    let answer = ask.send().await;
    (answer.status.as_u16(), answer.json().await)
}

#[test]
fn the_owner_comes_in_once_per_signature() {
    let Some(keys) = Keys::make(&["owner"]) else {
        return;
    };
    run(async {
        let kos = Fixture::with_owner_key(&keys.public("owner")).await;
        let nonce = nonce(&kos).await;
        let signature = keys.sign("owner", "kos-owner", &nonce);
        let proof = json!({ "nonce": nonce, "signature": signature });
        let opened = kos.ask("POST", "/api/v1/owner/session").json(&proof);
        let opened = opened.send().await;
        assert_eq!(opened.status, 200);
        let cookie = opened.header("set-cookie").to_owned();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
        let token = opened.json().await["token"].as_str().unwrap().to_owned();
        assert!(cookie.starts_with(&format!("kos_session={token};")));
        assert_eq!(kos.ask("GET", "/").cookie(&token).status().await, 200);
        let bearer = kos.ask("GET", "/api/v1/services");
        let bearer = bearer.header("authorization", &format!("Bearer {token}"));
        assert_eq!(bearer.status().await, 200);
        // The code opens beside it.
        assert_eq!(
            kos.ask("GET", "/").cookie(&kos.pair().await).status().await,
            200
        );

        let (status, error) = answer(&kos, &nonce, &signature).await;
        assert_eq!(status, 401);
        assert!(
            error["error"].as_str().unwrap().contains("it was used"),
            "{error}"
        );
    });
}

#[test]
fn others_do_not_and_are_limited_together_with_wrong_codes() {
    let Some(keys) = Keys::make(&["owner", "other"]) else {
        return;
    };
    run(async {
        let kos = Fixture::with_owner_key(&keys.public("owner")).await;
        let (first, second) = (nonce(&kos).await, nonce(&kos).await);
        for (nonce, signature, reason) in [
            (
                &first,
                keys.sign("other", "kos-owner", &first),
                "not the owner's",
            ),
            (
                &second,
                keys.sign("owner", "git", &second),
                "namespace 'git'",
            ),
            (
                &second,
                keys.sign("owner", "kos-owner", &second),
                "it was used",
            ),
            (
                &nonce(&kos).await,
                keys.sign("owner", "kos-owner", &first),
                "not belong",
            ),
            (&nonce(&kos).await, "nothing".to_owned(), "no signature"),
            (
                &"made-up".to_owned(),
                keys.sign("owner", "kos-owner", "made-up"),
                "never given",
            ),
        ] {
            let (status, error) = answer(&kos, nonce, &signature).await;
            assert_eq!(status, 401, "{reason}");
            assert!(error["error"].as_str().unwrap().contains(reason), "{error}");
        }
        for _ in 0..4 {
            let ask = kos
                .ask("GET", "/")
                .header("authorization", "Bearer AAAA-0000");
            assert_eq!(ask.status().await, 401);
        }
        let (status, _) = answer(&kos, &first, "").await;
        assert_eq!(status, 429);
        let limited = kos.ask("POST", "/api/v1/owner/challenge").send().await;
        assert_eq!(limited.status, 429);
        assert!(!limited.header("retry-after").is_empty());
    });
}

#[test]
fn a_browser_pairs_by_pasting_the_signature() {
    let Some(keys) = Keys::make(&["owner"]) else {
        return;
    };
    run(async {
        let kos = Fixture::with_owner_key(&keys.public("owner")).await;
        let page = kos.ask("GET", "/pair").send().await.text().await;
        assert!(page.contains("Pair with the owner's key"), "{page}");
        let form = kos.ask("POST", "/pair/key").form("next=/sessions");
        let page = form.send().await.text().await;
        let (_, rest) = page.split_once("printf %s ").unwrap();
        let (nonce, _) = rest.split_once(' ').unwrap();
        let (_, rest) = page.split_once("name=\"nonce\" value=\"").unwrap();
        assert!(rest.starts_with(&format!("{nonce}\"")));

        let wrong = kos.ask("POST", "/pair/key");
        let wrong = wrong.form(&format!("nonce={nonce}&signature=x&next=/sessions"));
        let wrong = wrong.send().await;
        assert_eq!(wrong.status, 401);
        let page = wrong.text().await;
        assert!(page.contains("no signature of ssh-keygen"), "{page}");
        let (_, rest) = page.split_once("printf %s ").unwrap();
        let (fresh, _) = rest.split_once(' ').unwrap();
        assert_ne!(fresh, nonce);

        let signature = keys.sign("owner", "kos-owner", &format!("{fresh}\n"));
        let signature = signature
            .replace('+', "%2B")
            .replace('=', "%3D")
            .replace('\n', "%0D%0A");
        let form = format!("nonce={fresh}&signature={signature}&next=/sessions");
        let paired = kos.ask("POST", "/pair/key").form(&form).send().await;
        assert_eq!(paired.status, 200);
        assert!(paired.header("set-cookie").contains("kos_session="));
        assert!(paired.text().await.contains("0; url=/sessions"));
    });
}

#[test]
fn without_an_owner_there_is_nothing_to_sign() {
    run(async {
        for kos in [
            Fixture::start().await,
            Fixture::with_owner_key("ssh-rsa AAAA no").await,
        ] {
            let answer = kos.ask("POST", "/api/v1/owner/challenge").send().await;
            assert_eq!(answer.status, 404);
            let error = answer.json().await["error"].to_string();
            assert!(error.contains("owner-key' in kos-box.toml"), "{error}");
            let page = kos.ask("GET", "/pair").send().await.text().await;
            assert!(!page.contains("owner's key"), "{page}");
            kos.pair().await;
        }
    });
}
