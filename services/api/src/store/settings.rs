//! The owner's small choices.

use serde::{Deserialize, Serialize};

use super::database::Store;

/// Every setting. Absent ones have their default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The model that the console's chat begins with; the first one when absent.
    #[serde(default)]
    pub default_model: Option<String>,
}

impl Store {
    /// The settings now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn settings(&self) -> Result<Settings, sqlx::Error> {
        let default_model = self
            .with_pool(move |pool| async move {
                sqlx::query_scalar("SELECT value FROM settings WHERE name = 'default_model'")
                    .fetch_optional(&pool)
                    .await
            })
            .await?;
        Ok(Settings { default_model })
    }

    /// Replaces the settings.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn put_settings(&self, settings: &Settings) -> Result<(), sqlx::Error> {
        self.with_pool(move |pool| async move {
            match &settings.default_model {
                Some(model) => {
                    sqlx::query("INSERT OR REPLACE INTO settings VALUES ('default_model', ?)")
                        .bind(model)
                        .execute(&pool)
                        .await?
                }
                None => {
                    sqlx::query("DELETE FROM settings WHERE name = 'default_model'")
                        .execute(&pool)
                        .await?
                }
            };
            Ok(())
        })
        .await
    }
}
