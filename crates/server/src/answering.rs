//! An answer is made, on the thread of a slot, and sent piece by piece.

use crate::failure::Failure;
use crate::job::{Event, Job, Summary};
use crate::likelihood::Likelihood;
use crate::metrics::Metrics;
use crate::served::Served;
use anemll_generation::generation::Generator;
use anemll_generation::sampling::Sampler;
use anemll_generation::shown::Shown;
use anemll_plugin_api::Result;
use anemll_services::cancellable;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Makes an answer. Whatever happens, the client hears of it, and the slot can go on.
pub(crate) fn run(job: Job, generator: &mut Generator, served: &Served, metrics: &Metrics) {
    let Job { outlet, place, .. } = &job;
    let made = catch_unwind(AssertUnwindSafe(|| {
        cancellable(&outlet.cancel, || answer(&job, generator, served, metrics))
    }));
    let last = match made {
        Ok(Ok(summary)) => Event::End(summary),
        Ok(Err(error)) if error.is_cancelled() => {
            metrics.cancelled.fetch_add(1, Ordering::Relaxed);
            Event::Failed(outlet.cut())
        }
        Ok(Err(error)) => {
            tracing::error!("an answer failed: {error}");
            Event::Failed(Failure::from(error))
        }
        Err(_) => {
            // What is in the caches now is not known.
            if let Err(error) = generator.reset() {
                tracing::error!("a slot cannot be emptied after a panic: {error}");
            }
            Event::Failed(Failure::bug())
        }
    };
    // Those who wait for room shall find it once they hear of the end.
    place.leave();
    outlet.send(last);
}

fn answer(
    job: &Job,
    generator: &mut Generator,
    served: &Served,
    metrics: &Metrics,
) -> Result<Summary> {
    let started = Instant::now();
    let likelihoods = Arc::new(Mutex::new(VecDeque::new()));
    let mut sampler = Sampler::new(job.sampling, job.seed);
    if let Some(count) = job.likely {
        let likelihoods = Arc::clone(&likelihoods);
        sampler.observe(Box::new(move |logits, token| {
            let likelihood = Likelihood::new(logits, token, count);
            likelihoods.lock().unwrap_or_else(PoisonError::into_inner).push_back(likelihood);
        }));
    }
    generator.set_sampler(sampler);
    let reused = generator.reusable(&job.prompt) as u64;
    let mut shown = Shown::new(&served.tokenizer, &job.prompt, &job.stop)?;
    let (mut held, mut begun) = (Vec::new(), false);
    let answer = generator.answer_until(&job.prompt, job.most, &mut |token| {
        if !std::mem::replace(&mut begun, true) {
            metrics.first_token.add(started.elapsed());
        }
        held.extend(likelihoods.lock().unwrap_or_else(PoisonError::into_inner).pop_front());
        let mut part = String::new();
        let flow = shown.push(token, &mut |text| {
            part.push_str(text);
            Ok(())
        })?;
        metrics.generated_tokens.fetch_add(1, Ordering::Relaxed);
        if !part.is_empty() {
            job.outlet.send(Event::Text(part, std::mem::take(&mut held)));
        }
        Ok(flow)
    });
    metrics.answers.add(started.elapsed());
    metrics.prompt_tokens.fetch_add(job.prompt.len() as u64, Ordering::Relaxed);
    let answer = answer?;
    metrics.reused_tokens.fetch_add(reused, Ordering::Relaxed);
    let rest = shown.finish()?;
    if !rest.is_empty() {
        job.outlet.send(Event::Text(rest, held));
    }
    Ok(Summary {
        end: answer.end,
        prompt: job.prompt.len() as u64,
        reused,
        generated: answer.tokens,
    })
}
