mod documents;
mod hostile;
mod properties;
mod strategies;
