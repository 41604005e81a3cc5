//! Other manifests for the services that run: what is new is added, what is gone is stopped, what
//! needs a new process gets one, and the rest goes on.

use std::sync::Arc;
use std::time::Duration;

use kos_manifest::control::{ReloadReport, State};
use kos_manifest::service::{Change, Service, ServiceSet};

use super::{RequestError, Supervisor};
use crate::console::lock;
use crate::directories;
use crate::manifests::{Edit, EditError, Manifests};
use crate::news::News;
use crate::task::{Request, Update};

/// Services that are removed get this long together, as at a shutdown; what is not gone by then
/// ends in its own time, and nobody sees it any more.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(45);

impl From<EditError> for RequestError {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Manifest(wrong) => RequestError::WrongManifest(wrong.to_string()),
            EditError::Files(error) => RequestError::NotNow(format!("{error:#}")),
        }
    }
}

impl Supervisor {
    /// Reads the manifests again and does what has changed in them.
    ///
    /// # Errors
    /// They are wrong or cannot be read, and nothing has changed.
    pub async fn reload(&self) -> Result<ReloadReport, RequestError> {
        self.with_manifests(|manifests| manifests.read()).await
    }

    /// Gives the owner's layer a manifest, for good, and does what it changes. `name` is a
    /// service's, or a template's with its `@`.
    ///
    /// # Errors
    /// It is wrong, alone or among the others, or cannot be kept; nothing has changed.
    pub async fn set_manifest(
        &self,
        name: &str,
        text: String,
    ) -> Result<ReloadReport, RequestError> {
        let edit = Edit::Set(name.to_owned(), text);
        self.with_manifests(move |manifests| manifests.edit(&edit))
            .await
    }

    /// Takes a manifest away from the owner's layer, for good, and does what that changes.
    ///
    /// # Errors
    /// The owner has none by that name, the others need it, or the disk does not take it; nothing
    /// has changed.
    pub async fn remove_manifest(&self, name: &str) -> Result<ReloadReport, RequestError> {
        let edit = Edit::Remove(name.to_owned());
        self.with_manifests(move |manifests| manifests.edit(&edit))
            .await
    }

    /// The text of a service's manifest, as it is kept.
    ///
    /// # Errors
    /// There is none by that name.
    pub async fn manifest(&self, name: &str) -> Result<String, RequestError> {
        let manifests = self.reloading.lock().await.0.clone();
        let name = name.to_owned();
        let text = blocking(move || manifests.text(&name)).await?;
        text.map_err(|error| RequestError::NotNow(format!("{error:#}")))
    }

    async fn with_manifests(
        &self,
        change: impl FnOnce(&Manifests) -> Result<ServiceSet, EditError> + Send + 'static,
    ) -> Result<ReloadReport, RequestError> {
        if self.shared.shutdown.is_requested() {
            return Err(RequestError::NotNow("the box is going down".to_owned()));
        }
        // Held to the end: one reload at a time.
        let mut current = self.reloading.lock().await;
        let manifests = current.0.clone();
        let services = blocking(move || change(&manifests)).await??;
        let report = self.apply(&current.1, &services).await;
        current.1 = services;
        Ok(report)
    }

    /// Makes the services that run those of a set.
    async fn apply(&self, old: &ServiceSet, new: &ServiceSet) -> ReloadReport {
        let changes = ServiceSet::changes(old, new);
        let of = |wanted: Change| -> Vec<Arc<Service>> {
            new.iter()
                .filter(|service| changes.get(service.name.as_str()) == Some(&wanted))
                .map(|service| Arc::new(service.clone()))
                .collect()
        };
        let (added, restarted, updated) =
            (of(Change::Added), of(Change::Restart), of(Change::Update));
        self.make_directories([&added, &restarted, &updated]).await;
        // What is new is there, at rest, before others are told that they come after it.
        self.add(added.clone());
        let mut report = ReloadReport::default();
        for (services, restart) in [(&restarted, true), (&updated, false)] {
            for service in services {
                let ran_anew = self.update(service, restart).await;
                let list = if ran_anew {
                    &mut report.restarted
                } else {
                    &mut report.updated
                };
                list.push(service.name.clone());
            }
        }
        let removed: Vec<&str> = changes
            .iter()
            .filter(|(_, change)| **change == Change::Removed)
            .map(|(name, _)| *name)
            .collect();
        let before = self.services();
        let stops = self.stop_in_order(&before, removed.clone(), || Request::Remove);
        if tokio::time::timeout(REMOVAL_DEADLINE, stops).await.is_err() {
            let names = removed.join(", ");
            let what = format!("removed services that take their time to end: {names}");
            self.shared.console.say(4, &what);
        }
        {
            let mut handles = lock(&self.handles);
            handles.retain(|name, _| !removed.contains(&name.as_str()));
        }
        for service in added.iter().filter(|service| service.enabled) {
            if let Err(error) = self.start(&service.name).await {
                let what = format!("cannot start: {error}");
                self.shared.console.say(3, &what);
            }
        }
        let unchanged = changes.values().filter(|c| **c == Change::Unchanged);
        report.unchanged = u32::try_from(unchanged.count()).unwrap_or(u32::MAX);
        report.removed = removed.into_iter().map(str::to_owned).collect();
        report.added = added.iter().map(|service| service.name.clone()).collect();
        self.tell(&report);
        report
    }

    /// Tells a service's task its new manifest; says whether it runs anew with it.
    async fn update(&self, service: &Arc<Service>, restart: bool) -> bool {
        let running = {
            let mut handles = lock(&self.handles);
            let Some(handle) = handles.get_mut(&service.name) else {
                return false;
            };
            handle.service = service.clone();
            let view = handle.view.borrow();
            view.is_busy() || view.state == State::Failed
        };
        let update = Update {
            service: service.clone(),
            dependencies: self.dependencies(service),
            restart,
        };
        let request = Request::Update(Box::new(update));
        if let Err(error) = self.ask(&service.name, request).await {
            let what = format!("service {}: not updated: {error}", service.name);
            self.shared.console.say(3, &what);
        }
        restart && running
    }

    async fn make_directories(&self, services: [&Vec<Arc<Service>>; 3]) {
        let services: Vec<Arc<Service>> = services.into_iter().flatten().cloned().collect();
        let made = blocking(move || {
            let services: Vec<&Service> = services.iter().map(Arc::as_ref).collect();
            directories::make(&services)
        });
        // A service whose directory is missing says so itself when it is started.
        if let Ok(Err(error)) = made.await {
            self.shared.console.say(3, &format!("reload: {error:#}"));
        }
    }

    fn tell(&self, report: &ReloadReport) {
        let lists = [
            ("added", &report.added),
            ("removed", &report.removed),
            ("restarted", &report.restarted),
            ("updated", &report.updated),
        ];
        let parts: Vec<String> = lists
            .iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(word, names)| format!("{word} {}", names.join(", ")))
            .chain([format!("{} unchanged", report.unchanged)])
            .collect();
        self.shared
            .console
            .say(6, &format!("reload: {}", parts.join("; ")));
        self.shared.news.tell(|| News::Reloaded(report.clone()));
        self.shared.changed();
    }
}

/// Runs what waits for a disk beside the loop.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RequestError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| RequestError::NotNow("the work was broken off".to_owned()))
}
