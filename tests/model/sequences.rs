//! Random sequences over both stores. A failure is tried again with parts left out, and told with its seed.

use super::driver::World;
use super::operation::{Operation, sequence};
use super::{Random, report};
use crate::api::app::TestApp;

const LENGTH: usize = 400;
const FIXED_SEEDS: [u64; 7] = [1, 2, 3, 4, 5, 6, 7];
/// Most tries to make a failing sequence shorter.
const ATTEMPTS: usize = 150;

async fn run(app: &TestApp, operations: &[Operation]) -> Result<(), (usize, String)> {
    let mut world = World::new(app);
    for (index, operation) in operations.iter().enumerate() {
        world.step(operation).await.map_err(|difference| (index, difference))?;
        if index % 25 == 24 {
            world.compare_everything().await.map_err(|difference| (index, difference))?;
        }
    }
    world.compare_everything().await.map_err(|difference| (operations.len() - 1, difference))
}

/// Leaves out parts, halves first, as long as what is left still fails.
async fn shrink(app: &TestApp, mut operations: Vec<Operation>, mut difference: String) -> (Vec<Operation>, String) {
    let (mut attempts, mut part) = (0, operations.len().div_ceil(2));
    while part > 0 && attempts < ATTEMPTS {
        let mut begin = 0;
        while begin < operations.len() && attempts < ATTEMPTS {
            attempts += 1;
            let mut fewer = operations.clone();
            fewer.drain(begin..(begin + part).min(operations.len()));
            match run(app, &fewer).await {
                Err((index, found)) => {
                    fewer.truncate(index + 1);
                    (operations, difference) = (fewer, found);
                }
                Ok(()) => begin += part,
            }
        }
        part /= 2;
    }
    (operations, difference)
}

async fn random_sequences_end_as_the_model_says(app: TestApp) {
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    let begin = std::time::Instant::now();
    for seed in FIXED_SEEDS.into_iter().chain([random]) {
        let operations = sequence(&mut Random(seed), LENGTH);
        if let Err((index, difference)) = run(&app, &operations).await {
            let (few, last) = shrink(&app, operations[..=index].to_vec(), difference.clone()).await;
            let steps: Vec<String> = few.iter().map(|operation| format!("  {operation:?}")).collect();
            panic!("seed {seed}, step {index}: {difference}\nshorter, {} steps:\n{}\n{last}", few.len(), steps.join("\n"));
        }
    }
    let (backend, steps) = (app.services.operations.levels(true).backend, LENGTH * (FIXED_SEEDS.len() + 1));
    report(&format!("{backend}: {steps} steps as the model, random seed {random}, {:?}", begin.elapsed()));
}

crate::api::on_both_stores!(random_sequences_end_as_the_model_says);
