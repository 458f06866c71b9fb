//! The doing of one step.

use crate::changes::Effect;
use crate::fleet::{Fleet, FleetError, Reconfigure};
use crate::plan::{Action, Step};

/// Does what the step says. What is left of it is found, and done, by the next round.
pub(crate) async fn perform(fleet: &impl Fleet, step: &Step) -> Result<(), FleetError> {
    match (&step.action, &step.uid) {
        (Action::Create(vm), _) => fleet.create((**vm).clone()).await.map(drop),
        (Action::Start, Some(uid)) => fleet.start(uid).await,
        (Action::Stop, Some(uid)) => fleet.stop(uid).await,
        (Action::Heal, Some(uid)) => {
            fleet.stop(uid).await?;
            fleet.start(uid).await
        }
        (Action::Change { effect, vm, .. }, Some(uid)) => match effect {
            Effect::Update => fleet.reconfigure(uid, Reconfigure { vm: (**vm).clone() }).await,
            Effect::Restart => {
                fleet.stop(uid).await?;
                fleet.reconfigure(uid, Reconfigure { vm: (**vm).clone() }).await
            }
            Effect::Recreate => {
                fleet.stop(uid).await?;
                fleet.remove(uid).await
            }
        },
        (Action::Remove, Some(uid)) => {
            fleet.stop(uid).await?;
            fleet.remove(uid).await
        }
        (Action::Start | Action::Stop | Action::Heal | Action::Change { .. } | Action::Remove, None) => Ok(()),
        (
            Action::Keep
            | Action::Completed
            | Action::Wait(_)
            | Action::WaitForRemoval(_)
            | Action::Hold(_)
            | Action::Refuse(_)
            | Action::Lacks(_),
            _,
        ) => Ok(()),
    }
}
