//! How the states of a text's tokens become one vector.

use super::Error;
use crate::gguf::Metadata;

/// Which states count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The mean of all.
    Mean,
    /// The first token's, which stands for the text.
    First,
    /// The last token's, which has seen the others.
    Last,
}

impl Pooling {
    /// What the metadata says; None when it says nothing.
    ///
    /// # Errors
    /// When it says something else.
    pub fn read(metadata: &Metadata, architecture: &str) -> Result<Option<Self>, Error> {
        let key = format!("{architecture}.pooling_type");
        match metadata.number(&key)? {
            None | Some(0) => Ok(None),
            Some(1) => Ok(Some(Self::Mean)),
            Some(2) => Ok(Some(Self::First)),
            Some(3) => Ok(Some(Self::Last)),
            Some(found) => Err(Error::Unsupported {
                what: key,
                found: found.to_string(),
                allowed: "0 (none), 1 (mean), 2 (the first token), 3 (the last token)".to_owned(),
            }),
        }
    }

    /// The number that GGUF has for it.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::Mean => 1,
            Self::First => 2,
            Self::Last => 3,
        }
    }
}

/// A vector that is being made of states, as they come.
#[derive(Debug, Clone)]
pub struct Pooled {
    pooling: Pooling,
    sum: Vec<f32>,
    count: usize,
}

impl Pooled {
    /// Of states of `width` numbers.
    #[must_use]
    pub fn new(pooling: Pooling, width: usize) -> Self {
        Self {
            pooling,
            sum: vec![0.0; width],
            count: 0,
        }
    }

    /// Takes the states of the next tokens.
    pub fn add(&mut self, states: &[f32]) {
        for state in states.chunks_exact(self.sum.len()) {
            match self.pooling {
                Pooling::Mean => crate::kernels::add(&mut self.sum, state),
                Pooling::First if self.count > 0 => {}
                Pooling::First | Pooling::Last => self.sum.copy_from_slice(state),
            }
            self.count += 1;
        }
    }

    /// The vector, of length 1 unless it is all zeros: its first `dimensions` numbers, where fewer are wanted
    /// than there are.
    ///
    /// # Errors
    /// When a number is not finite.
    pub fn finish(mut self, dimensions: Option<usize>) -> Result<Vec<f32>, Error> {
        // A mean and a sum point the same way.
        self.sum.truncate(dimensions.unwrap_or(usize::MAX).max(1));
        let squares = self.sum.iter().map(|&number| f64::from(number).powi(2));
        let length = squares.sum::<f64>().sqrt();
        if !length.is_finite() {
            return Err(Error::NotFinite);
        }
        if length > 0.0 {
            for number in &mut self.sum {
                *number = (f64::from(*number) / length) as f32;
            }
        }
        Ok(self.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pooled(pooling: Pooling, dimensions: Option<usize>) -> Vec<f32> {
        let mut pool = Pooled::new(pooling, 3);
        pool.add(&[3.0, 0.0, 4.0]);
        pool.add(&[0.0, 2.0, 0.0, 3.0, 4.0, 0.0]);
        pool.finish(dimensions).unwrap()
    }

    #[test]
    fn states_become_a_vector_of_length_one() {
        assert_eq!(pooled(Pooling::First, None), [0.6, 0.0, 0.8]);
        assert_eq!(pooled(Pooling::Last, None), [0.6, 0.8, 0.0]);
        let mean = pooled(Pooling::Mean, None);
        let length = 88.0_f32.sqrt();
        for (found, exact) in mean.iter().zip([6.0, 6.0, 4.0]) {
            assert!((found - exact / length).abs() < 1e-6);
        }
        assert_eq!(pooled(Pooling::First, Some(2)), [1.0, 0.0]);
        assert_eq!(pooled(Pooling::First, Some(9)), [0.6, 0.0, 0.8]);
    }

    #[test]
    fn what_is_no_number_is_told() {
        let mut pool = Pooled::new(Pooling::Mean, 1);
        pool.add(&[f32::INFINITY]);
        assert!(matches!(pool.finish(None), Err(Error::NotFinite)));
        assert_eq!(
            Pooled::new(Pooling::Mean, 2).finish(None).unwrap(),
            [0.0, 0.0]
        );
    }
}
