"""The imperative shell: publish, deliver, manage, replay, sweep. Effects live here, decisions in the core."""
