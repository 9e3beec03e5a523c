//! The sweeper: removes, in small steps, what no reader can see any more.

use std::time::{Duration, Instant};

use crate::config::JobsConfig;
use crate::lifecycle::Lifecycle;
use crate::service::housekeeping::{Housekeeping, Limits};

/// Sweeps at each interval until the process stops. A run does every kind of housekeeping in its order, step by step, and gives up when its
/// time is over, when another server is at it, or when the store does not answer; the next run goes on.
pub async fn run(housekeeping: Housekeeping, config: JobsConfig, lifecycle: Lifecycle) {
    let interval = Duration::from(config.sweep_interval_ms);
    loop {
        tokio::select! {
            () = lifecycle.soft().cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        run_once(&housekeeping, &config, &lifecycle).await;
    }
}

/// One run.
pub async fn run_once(housekeeping: &Housekeeping, config: &JobsConfig, lifecycle: &Lifecycle) {
    let begin = Instant::now();
    let budget = Duration::from(config.sweep_budget_ms);
    let limits = Limits { rows: config.sweep_rows, log_seconds: config.log_seconds, floor_seconds: config.floor_seconds };
    for task in housekeeping.tasks() {
        let mut rows = 0;
        loop {
            if lifecycle.is_stopping() || begin.elapsed() >= budget {
                return;
            }
            match housekeeping.step(*task, limits).await {
                Ok(step) if step.busy => return,
                Ok(step) => {
                    rows += step.rows;
                    if !step.more {
                        break;
                    }
                }
                Err(error) => {
                    tracing::warn!(task = task.as_str(), %error, cause = error.cause().unwrap_or_default(), "a step of housekeeping failed");
                    return;
                }
            }
        }
        if rows > 0 {
            tracing::info!(task = task.as_str(), rows, "swept");
        }
    }
}
