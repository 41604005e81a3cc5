//! In what order services start and stop: pure, from their manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kos_manifest::service::Service;

/// Services by name.
pub type Services = BTreeMap<String, Arc<Service>>;

/// Some services with all that they require and want, each once and after what it requires and
/// wants itself.
pub fn with_needs<'a>(services: &'a Services, wanted: &[&'a str]) -> Vec<&'a str> {
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    // Two visits each: on the way down, and on the way up when all that it needs is in the list.
    let mut visits: Vec<(&str, bool)> = wanted.iter().rev().map(|name| (*name, false)).collect();
    while let Some((name, on_the_way_up)) = visits.pop() {
        if on_the_way_up {
            order.push(name);
            continue;
        }
        let Some(service) = services.get(name) else {
            continue;
        };
        if !seen.insert(name) {
            continue;
        }
        visits.push((name, true));
        // What is required is ready sooner, so it is visited, and started, first.
        for need in service.wants.iter().chain(&service.requires) {
            visits.push((need, false));
        }
    }
    order
}

/// For each service those that have to be gone before it is stopped: those that come after it, and
/// those that say so themselves.
pub fn stops_after(services: &Services) -> BTreeMap<&str, Vec<&str>> {
    let mut after: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, service) in services {
        after.entry(name).or_default();
        for earlier in service.after.iter().chain(&service.stop_before) {
            after.entry(earlier).or_default().push(name);
        }
    }
    after
}

#[cfg(test)]
mod tests {
    use kos_manifest::seccomp::SyscallSets;
    use kos_manifest::service::ServiceSet;

    use super::*;

    fn services(manifests: &[(&str, &str)]) -> Services {
        let set = "name = \"default\"\ndescription = \"d\"\nsyscalls = [\"read\"]\n";
        let sets = SyscallSets::parse([("default.toml".to_owned(), set.to_owned())]).unwrap();
        let files = manifests.iter().enumerate().map(|(index, (name, keys))| {
            let text = format!(
                "name = \"{name}\"\ndescription = \"d\"\nprogram = \"/bin/x\"\nuid = {}\n{keys}\n",
                1001 + index
            );
            (format!("{name}.toml"), text)
        });
        let set = ServiceSet::parse(files, &sets).unwrap();
        set.iter()
            .map(|service| (service.name.clone(), Arc::new(service.clone())))
            .collect()
    }

    #[test]
    fn what_is_needed_starts_first_and_once() {
        let services = services(&[
            ("a", "requires = [\"c\", \"b\"]"),
            ("b", "requires = [\"c\"]\nwants = [\"w\"]"),
            ("c", ""),
            ("other", ""),
            ("w", ""),
        ]);
        let order = with_needs(&services, &["a"]);
        let at = |name: &str| order.iter().position(|other| *other == name).unwrap();
        assert_eq!(order.len(), 4, "{order:?}");
        assert!(at("c") < at("b") && at("b") < at("a") && at("w") < at("b"));
        assert_eq!(with_needs(&services, &["nobody"]), [""; 0]);
    }

    #[test]
    fn those_that_want_each_other_come_to_an_end() {
        let services = services(&[("a", "wants = [\"b\"]"), ("b", "wants = [\"a\"]")]);
        assert_eq!(with_needs(&services, &["a", "b"]).len(), 2);
    }

    #[test]
    fn a_stop_waits_for_those_after_and_those_that_say_so() {
        let services = services(&[
            ("api", "after = [\"infer\"]\nstop-before = [\"net\"]"),
            ("infer", ""),
            ("net", ""),
        ]);
        let after = stops_after(&services);
        assert_eq!(after["infer"], ["api"]);
        assert_eq!(after["net"], ["api"]);
        assert_eq!(after["api"], [""; 0]);
    }
}
