select (@schema@.complete_job($1, $2)).id
