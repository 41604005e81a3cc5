//! Templates: what `%i` means in a manifest that stands for several services.

use toml::Spanned;

use crate::raw::RawService;

impl RawService {
    /// The manifest as it reads for one instance: `%i` filled in where it may stand. The places in
    /// the text stay those of the template, so that an error points there.
    pub(crate) fn instance(&self, instance: &str) -> RawService {
        let mut filled = self.clone();
        let steps = filled
            .steps
            .pre_start
            .iter_mut()
            .chain(&mut filled.steps.post_stop);
        let sandbox = &mut filled.sandbox;
        let texts = std::iter::once(&mut filled.description)
            .chain(&mut filled.args)
            .chain(filled.environment.values_mut())
            .chain(steps.flat_map(|step| &mut step.args))
            .chain(filled.sockets.iter_mut().map(|socket| &mut socket.listen))
            .chain(&mut filled.readiness.address)
            .chain(&mut filled.readiness.path)
            .chain(&mut filled.conditions.devices)
            .chain(&mut sandbox.read)
            .chain(&mut sandbox.write)
            .chain(&mut sandbox.execute)
            .chain(&mut sandbox.devices);
        for text in texts {
            fill(text, instance);
        }
        filled
    }
}

fn fill(text: &mut Spanned<String>, instance: &str) {
    if !text.get_ref().contains('%') {
        return;
    }
    let mut filled = String::with_capacity(text.get_ref().len() + instance.len());
    let mut rest = text.get_ref().as_str();
    while let Some((before, after)) = rest.split_once('%') {
        filled.push_str(before);
        if let Some(after) = after.strip_prefix('i') {
            filled.push_str(instance);
            rest = after;
        } else {
            // `%%` is one; a single one that means nothing stays as it is.
            filled.push('%');
            rest = after.strip_prefix('%').unwrap_or(after);
        }
    }
    filled.push_str(rest);
    *text.get_mut() = filled;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> String {
        let mut text = Spanned::new(0..0, text.to_owned());
        fill(&mut text, "garage");
        text.into_inner()
    }

    #[test]
    fn the_instance_is_filled_in() {
        assert_eq!(
            filled("/run/kos/camera@%i/%i"),
            "/run/kos/camera@garage/garage"
        );
        assert_eq!(
            filled("100%% of %i, 5% of %x%"),
            "100% of garage, 5% of %x%"
        );
        assert_eq!(filled("%%i"), "%i");
    }
}
